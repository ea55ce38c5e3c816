// Opens an account and waits for the outcome. Needs nothing but an AMQP client: npm install amqplib
const amqp = require('amqplib');
const { randomUUID } = require('node:crypto');

async function main() {
  const connection = await amqp.connect(process.env.WALLET_AMQP_URL);
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });

  const correlationId = randomUUID();
  const outcome = new Promise((resolve) => {
    channel.consume(queue, (reply) => {
      if (reply && reply.properties.correlationId === correlationId) resolve(JSON.parse(reply.content));
    }, { noAck: true });
  });

  const command = { type: 'account.open.v1', serial_no: 'open-erin', user_id: 'erin', currency: 'TWD' };
  channel.publish('wallet.commands', 'account.open', Buffer.from(JSON.stringify(command)), {
    contentType: 'application/json', persistent: true, messageId: randomUUID(), correlationId, replyTo: queue,
  });
  await channel.waitForConfirms();

  console.log(JSON.stringify(await outcome));
  await connection.close();
}

main();
