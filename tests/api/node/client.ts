// Type-checked against the types that openapi-typescript makes of our document; a test compiles and runs it.
import createClient from "openapi-fetch";
import type { paths } from "./wallet.js";

const { WALLET, KEY } = process.env as { WALLET: string; KEY: string };
const wallet = createClient<paths>({ baseUrl: WALLET, headers: { authorization: `Bearer ${KEY}` } });

const opened = await wallet.POST("/v1/accounts", {
  params: { header: { "Idempotency-Key": "OPEN-TESS" } },
  body: { user_id: "tess", account_type: "basic", currency: "TWD" },
});
if (opened.error) throw new Error(opened.error.code);
if (opened.data.type !== "command.outcome.v1") throw new Error(opened.data.type);

const ordered = await wallet.POST("/v1/recharges", {
  params: { header: { "Idempotency-Key": "R-TESS" } },
  body: { user_id: "tess", account_type: "basic", amount: "5.00", currency: "TWD", recharge_type: "card" },
});
if (ordered.error) throw new Error(ordered.error.code);

const page = await wallet.GET("/v1/statements", { params: { query: { user_id: "tess", currency: "TWD", limit: 10 } } });
if (page.error) throw new Error(page.error.code);
const lines: number = page.data.entries.length;
console.log(`typed: ${lines} lines`);
