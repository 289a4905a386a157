// Runs every call for topics and subscriptions of the published package cmq-sdk, as queue.js does those for queues:
// topics of both kinds, from their creation over what is published and received to their end.
'use strict';

const { assert, client, now, ok, refused } = require('./step');

const receiveAll = async (c, queueName, count) => {
  const bodies = [];
  while (bodies.length < count) {
    const got = await ok('batchReceiveMessage', c.batchReceiveMessage({ queueName, numOfMsg: 16, pollingWaitSeconds: 10 }));
    for (const m of got.msgInfoList) {
      bodies.push(m.msgBody);
      assert.equal(m.dequeueCount, 1);
      assert.ok(Math.abs(m.enqueueTime - now()) < 60, JSON.stringify(m));
    }
    await ok('batchDeleteMessage', c.batchDeleteMessage({ queueName, receiptHandle: got.msgInfoList.map((m) => m.receiptHandle) }));
  }
  await refused('receiveMessage of an empty queue', 7000, '(10200)no message', c.receiveMessage({ queueName, pollingWaitSeconds: 0 }));
  return bodies;
};

const noMatch = '(10730)no bindingKey or filterTag matches the routingKey or msgTag';

async function tagLife(c, topicName) {
  const all = `${topicName}-all`;
  const system = `${topicName}-system`;
  await ok('createQueue', c.createQueue({ queueName: all }));
  await ok('createQueue', c.createQueue({ queueName: system }));
  const created = await ok('createTopic', c.createTopic({ topicName, maxMsgSize: 65536, filterType: 1 }));
  assert.match(created.topicId, /^topic-/);
  await refused('createTopic twice', 4460, '(10550)topic is already existed', c.createTopic({ topicName: topicName.toUpperCase() }));
  const list = await ok('listTopic', c.listTopic({ searchWord: topicName, offset: 0, limit: 20 }));
  assert.deepEqual(list.topicList, [{ topicId: created.topicId, topicName }]);
  assert.equal(list.totalCount, 1);
  await ok('setTopicAttributes', c.setTopicAttributes({ topicName, maxMsgSize: 131072 }));
  const attributes = await ok('getTopicAttributes', c.getTopicAttributes({ topicName }));
  assert.equal(attributes.maxMsgSize, 131072);
  assert.equal(attributes.msgRetentionSeconds, 86400);
  assert.equal(attributes.filterType, 1);
  assert.equal(attributes.msgCount, 0);
  assert.ok(Math.abs(attributes.createTime - now()) < 60 && attributes.lastModifyTime >= attributes.createTime);
  await refused('publishMessage to nobody', 6030, '(10650)topic has no subscription, please create a subscription before publishing message', c.publishMessage({ topicName, msgBody: 'x' }));

  const subscribed = await ok('subscribe', c.subscribe({ topicName, subscriptionName: 'system', protocol: 'queue', endpoint: system, filterTag: ['system', '系统'] }));
  assert.match(subscribed.subscriptionId, /^subsc-/);
  await refused('subscribe twice', 4490, '(10470)subscribtion is already existed', c.subscribe({ topicName, subscriptionName: 'System', protocol: 'queue', endpoint: system }));
  await refused('publishMessage without a tag', 6030, noMatch, c.publishMessage({ topicName, msgBody: 'x' }));
  await refused('batchPublishMessage with another tag', 6030, noMatch, c.batchPublishMessage({ topicName, msgBody: ['x'], msgTag: ['System'] }));
  await ok('subscribe all', c.subscribe({ topicName, subscriptionName: 'all', protocol: 'queue', endpoint: all, notifyStrategy: 'BACKOFF_RETRY', notifyContentFormat: 'SIMPLIFIED' }));

  const sent = await ok('publishMessage', c.publishMessage({ topicName, msgBody: '{"note":"both"}', msgTag: ['other', '系统'] }));
  assert.match(sent.msgId, /^[0-9]+$/);
  await ok('publishMessage to all', c.publishMessage({ topicName, msgBody: '@all 你好 😀' }));
  const msgBody = Array.from({ length: 16 }, (_, i) => `{"index":${i}}`);
  const batch = await ok('batchPublishMessage', c.batchPublishMessage({ topicName, msgBody, msgTag: ['system'] }));
  assert.equal(batch.msgList.length, 16);
  assert.equal(new Set(batch.msgList.map((m) => m.msgId)).size, 16);
  assert.deepEqual((await receiveAll(c, all, 18)).sort(), ['{"note":"both"}', '@all 你好 😀', ...msgBody].sort());
  assert.deepEqual((await receiveAll(c, system, 17)).sort(), ['{"note":"both"}', ...msgBody].sort());

  await subscriptionLife(c, topicName, system, subscribed.subscriptionId);
  await refused('deleteTopic with subscriptions', 4000, '(10540)there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic', c.deleteTopic({ topicName }));
  for (const subscriptionName of ['all', 'system']) {
    await ok('unsubscribe', c.unsubscribe({ topicName, subscriptionName }));
  }
  await refused('unsubscribe twice', 4000, '(10560)subscription is not existed', c.unsubscribe({ topicName, subscriptionName: 'all' }));
  await ok('deleteTopic', c.deleteTopic({ topicName }));
  await refused('publishMessage to a deleted topic', 4440, '(10600)topic is not existed, or deleted', c.publishMessage({ topicName, msgBody: 'x' }));
  await ok('deleteQueue', c.deleteQueue({ queueName: all }));
  await ok('deleteQueue', c.deleteQueue({ queueName: system }));
}

async function subscriptionLife(c, topicName, endpoint, subscriptionId) {
  const subscriptionName = 'system';
  const list = await ok('listSubscriptionByTopic', c.listSubscriptionByTopic({ topicName, searchWord: 'sys', offset: 0, limit: 20 }));
  assert.deepEqual(list.subscriptionList, [{ subscriptionId, subscriptionName, protocol: 'queue', endpoint }]);
  await ok('setSubscriptionAttributes', c.setSubscriptionAttributes({ topicName, subscriptionName, notifyStrategy: 'BACKOFF_RETRY', filterTag: ['a', 'b'] }));
  const s = await ok('getSubscriptionAttributes', c.getSubscriptionAttributes({ topicName, subscriptionName }));
  assert.equal(s.notifyStrategy, 'BACKOFF_RETRY');
  assert.equal(s.notifyContentFormat, 'SIMPLIFIED');
  assert.equal(s.endpoint, endpoint);
  assert.equal(s.protocol, 'queue');
  assert.equal(typeof s.topicOwner, 'string');
  assert.deepEqual(s.filterTag, ['a', 'b']);
  assert.deepEqual(s.bindingKey, []);
  await ok('clearSubscriptionFilterTags', c.clearSubscriptionFilterTags({ topicName, subscriptionName }));
  assert.deepEqual((await ok('getSubscriptionAttributes', c.getSubscriptionAttributes({ topicName, subscriptionName }))).filterTag, []);
}

async function routerLife(c, topicName) {
  const queueName = `${topicName}-q`;
  await ok('createQueue', c.createQueue({ queueName }));
  await ok('createTopic', c.createTopic({ topicName, filterType: 2 }));
  const subscribe = (subscriptionName, filter) => c.subscribe({ topicName, subscriptionName, protocol: 'queue', endpoint: queueName, ...filter });
  await refused('subscribe without a key', 4000, '(10710)parameters lack of bindingKey', subscribe('none', {}));
  await ok('subscribe', subscribe('exact', { bindingKey: ['system.common'] }));
  await ok('subscribe', subscribe('star', { bindingKey: ['*.common'] }));
  await ok('publishMessage to both', c.publishMessage({ topicName, msgBody: 'both', routingKey: 'system.common' }));
  await ok('batchPublishMessage to one', c.batchPublishMessage({ topicName, msgBody: ['only', '@only'], routingKey: 'app.common' }));
  await refused('publishMessage to none', 6030, noMatch, c.publishMessage({ topicName, msgBody: 'x', routingKey: 'a.b.common' }));
  await refused('publishMessage without a key', 4000, '(10700)parameters lack of routingKey', c.publishMessage({ topicName, msgBody: 'x' }));
  assert.deepEqual((await receiveAll(c, queueName, 4)).sort(), ['@only', 'both', 'both', 'only']);
  for (const subscriptionName of ['exact', 'star']) {
    await ok('unsubscribe', c.unsubscribe({ topicName, subscriptionName }));
  }
  await ok('deleteTopic', c.deleteTopic({ topicName }));
  await ok('deleteQueue', c.deleteQueue({ queueName }));
}

(async () => {
  await tagLife(client('HmacSHA256', '/v2/index.php'), 'Tags-256');
  await tagLife(client('HmacSHA1', '/'), 'Tags-1');
  await routerLife(client('HmacSHA256', '/'), 'Routes-256');
  await routerLife(client('HmacSHA1', '/v2/index.php'), 'Routes_1');
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
