// Runs every call for queues of the published package cmq-sdk against a server (see step.js), and prints one line per
// step. It ends with status 1 at the first surprise.
'use strict';

const { assert, client, now, ok, refused } = require('./step');

// With waits, polls that end without a message are part of it.
async function queueLife(c, queueName, waits) {
  const created = await ok('createQueue', c.createQueue({ queueName, rewindSeconds: 3600, visibilityTimeout: 30 }));
  assert.match(created.queueId, /^queue-/);
  await refused('createQueue twice', 4460, '(10210)queue is already existed', c.createQueue({ queueName }));
  const list = await ok('listQueue', c.listQueue({ searchWord: queueName, offset: 0, limit: 20 }));
  assert.deepEqual(list.queueList, [{ queueId: created.queueId, queueName }]);
  assert.equal(list.totalCount, 1);
  const set = await ok('setQueueAttributes', c.setQueueAttributes({ queueName, maxMsgHeapNum: 5000000, pollingWaitSeconds: 1 }));
  assert.equal(set.maxMsgHeapNum, 5000000);

  for (const msgBody of ['{"name":"kain"}', 'a&b=c d+%', '你好 😀', '@all', ' ', '"\\\n\u0000']) {
    const sent = await ok('sendMessage', c.sendMessage({ queueName, msgBody }));
    const got = await ok('receiveMessage', c.receiveMessage({ queueName, pollingWaitSeconds: 3 }));
    assert.equal(got.msgBody, msgBody);
    assert.equal(got.msgId, sent.msgId);
    assert.equal(got.dequeueCount, 1);
    assert.ok(Math.abs(got.enqueueTime - now()) < 60 && got.nextVisibleTime > got.firstDequeueTime, JSON.stringify(got));
    await ok('deleteMessage', c.deleteMessage({ queueName, receiptHandle: got.receiptHandle }));
    await refused('deleteMessage twice', 4430, '(10260)receipt handle is invalid', c.deleteMessage({ queueName, receiptHandle: got.receiptHandle }));
  }

  const msgBody = Array.from({ length: 16 }, (_, i) => `{"index":${i}}`);
  const batch = await ok('batchSendMessage', c.batchSendMessage({ queueName, msgBody }));
  assert.equal(batch.msgList.length, 16);
  const received = [];
  while (received.length < 16) {
    const got = await ok('batchReceiveMessage', c.batchReceiveMessage({ queueName, numOfMsg: 16, pollingWaitSeconds: 3 }));
    received.push(...got.msgInfoList);
  }
  assert.deepEqual(received.map((m) => m.msgBody), msgBody);
  assert.deepEqual(received.map((m) => m.msgId), batch.msgList.map((m) => m.msgId));
  const attributes = await ok('getQueueAttributes', c.getQueueAttributes({ queueName }));
  assert.equal(attributes.inactiveMsgNum, 16);
  assert.equal(attributes.rewindmsgNum, 6);
  await ok('batchDeleteMessage', c.batchDeleteMessage({ queueName, receiptHandle: received.map((m) => m.receiptHandle) }));
  const failed = await refused('batchDeleteMessage twice', 6020, '(10290)batch delete message failed', c.batchDeleteMessage({ queueName, receiptHandle: received.map((m) => m.receiptHandle) }));
  assert.equal(failed.errorList.length, 16);
  if (waits) {
    await refused('receiveMessage of an empty queue', 7000, '(10200)no message', c.receiveMessage({ queueName, pollingWaitSeconds: 1 }));
    await refused('receiveMessage, wait of the queue', 7000, '(10200)no message', c.receiveMessage({ queueName }));
  }

  await ok('rewindQueue', c.rewindQueue({ queueName, startConsumeTime: now() - 1800 }));
  const again = await ok('receiveMessage after rewind', c.receiveMessage({ queueName, pollingWaitSeconds: 3 }));
  assert.equal(again.msgBody, '{"name":"kain"}');
  await ok('sendMessage with delay', c.sendMessage({ queueName, msgBody: 'later', delaySeconds: 3600 }));
  await ok('deleteQueue', c.deleteQueue({ queueName }));
  await refused('receiveMessage of a deleted queue', 4440, '(10100)queue is not existed, or deleted', c.receiveMessage({ queueName }));
}

(async () => {
  await queueLife(client('HmacSHA256', '/v2/index.php'), 'Node-256', true);
  await queueLife(client('HmacSHA1', '/v2/index.php'), 'Node-1', false);
  await queueLife(client('HmacSHA256', '/'), 'Node_root', false);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
