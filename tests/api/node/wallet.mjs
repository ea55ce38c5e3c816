// A whole life by HTTP, in Node with nothing but fetch and node:crypto. A test runs this program.
// WALLET is the address, KEY an API key, SIGNING_KEY the gateway's key as "id:secret".
import { createHmac } from "node:crypto";
import assert from "node:assert/strict";

const { WALLET, KEY, SIGNING_KEY } = process.env;
const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };

// Choose the number, store it, then send. Anything but 200, 201, 400 to 415 and 422: the same again.
async function post(path, serialNo, body, prefer = "wait=10") {
  for (;;) {
    const answer = await fetch(WALLET + path, {
      method: "POST",
      headers: { ...headers, "idempotency-key": serialNo, prefer },
      body: JSON.stringify(body),
    }).catch(() => null);
    if (answer && (answer.status < 202 || (answer.status >= 400 && answer.status <= 422 && answer.status !== 408)))
      return { status: answer.status, headers: answer.headers, body: await answer.json() };
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const get = async (path, more = {}) => {
  const answer = await fetch(WALLET + path, { headers: { ...headers, ...more } });
  return { status: answer.status, headers: answer.headers, body: await answer.json() };
};

// What a payment gateway does: sign the bytes, and post exactly them.
async function report(result) {
  const [kid, secret] = SIGNING_KEY.split(":");
  const body = JSON.stringify(result);
  const t = Math.floor(Date.now() / 1000);
  const v1 = createHmac("sha256", secret).update(`${t}.`).update(body).digest("hex");
  const answer = await fetch(`${WALLET}/v1/payment-results`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-signature": `t=${t},kid=${kid},v1=${v1}` },
    body,
  });
  return { status: answer.status, body: await answer.json() };
}

const opening = { user_id: "nora", currency: "TWD" };
const opened = await post("/v1/accounts", "OPEN-NORA", opening);
assert.equal(opened.status, 201);
const repeated = await post("/v1/accounts", "OPEN-NORA", opening);
assert.equal(repeated.body.duplicate, true);
assert.equal(repeated.headers.get("idempotent-replayed"), "true");

const conflict = await post("/v1/accounts", "OPEN-NORA", { ...opening, currency: "USD" });
assert.equal(conflict.status, 422);
assert.equal(conflict.headers.get("content-type"), "application/problem+json");
for (const member of ["type", "title", "status", "code", "retry", "request_id"]) assert.ok(member in conflict.body, member);
assert.deepEqual([conflict.body.code, conflict.body.retry, conflict.body.different], ["SERIAL_CONFLICT", "never", ["currency"]]);

for (const number of [1, 2, 3]) {
  const serialNo = `R-NORA-${number}`;
  const ordered = await post("/v1/recharges", serialNo, { user_id: "nora", amount: "100.00", currency: "TWD", recharge_type: "card" });
  assert.equal(ordered.body.result.order_status, "pending");
  const processed = await report({
    type: "payment.result.v1", payment_order_no: serialNo, amount: "100.00", currency: "TWD",
    status: "succeeded", gateway_ref: `gw-${number}`, occurred_at: new Date().toISOString(),
  });
  assert.deepEqual([processed.status, processed.body.processing_status], [200, "processed"]);
  const order = await get(`/v1/orders?serial_no=${serialNo}`, { prefer: "wait=25" });
  assert.equal(order.body.order.status, "succeeded");
}

const lines = [];
for (let next = "/v1/statements?user_id=nora&currency=TWD&limit=2"; next; ) {
  const page = await get(next);
  lines.push(...page.body.entries);
  next = page.headers.get("link")?.match(/<([^>]+)>; rel="next"/)?.[1];
}
assert.deepEqual(lines.map((line) => line.balance_after), ["100.00", "200.00", "300.00"]);

const refused = await get("/v1/orders?serial_no=NOBODY");
assert.deepEqual([refused.status, refused.body.code], [404, "ORDER_NOT_FOUND"]);
console.log("a life by HTTP, done");
