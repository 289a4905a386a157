// What the programs that run calls of the published package cmq-sdk have in common: clients of the server CMQ_ADDRESS
// (host:port) with the key CMQ_SECRET_ID / CMQ_SECRET_KEY, and steps that print one line each.
//
// The package builds its own host names, so connections are led to the server below HTTP, as a DNS entry would.
'use strict';

const assert = require('assert').strict;
const http = require('http');
const net = require('net');
const { CMQ } = require('cmq-sdk');

const [host, port] = process.env.CMQ_ADDRESS.split(':');
http.globalAgent.createConnection = (options, done) => net.createConnection({ host, port }, done);

const client = (signatureMethod, path) => CMQ.NEW({
  path,
  signatureMethod,
  extranet: false,
  secretId: process.env.CMQ_SECRET_ID,
  secretKey: process.env.CMQ_SECRET_KEY,
  region: 'gz',
});

const now = () => Math.floor(Date.now() / 1000);

async function ok(step, promise) {
  const answer = await promise;
  assert.equal(answer.code, 0, `${step}: ${JSON.stringify(answer)}`);
  assert.equal(answer.message, '', step);
  assert.match(answer.requestId, /^[0-9]+$/, step);
  console.log(`ok ${step}`);
  return answer;
}

async function refused(step, code, message, promise) {
  const answer = await promise;
  assert.equal(answer.code, code, `${step}: ${JSON.stringify(answer)}`);
  assert.equal(answer.message, message, step);
  console.log(`ok ${step} is refused`);
  return answer;
}

module.exports = { assert, client, now, ok, refused };
