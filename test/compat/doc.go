// Package compat runs clients of the CMQ API against real processes of cmq, a single node and a cluster of three,
// over HTTP and the TCP protocol:
//
//   - cmq-sdk of npm, as published, on Node.js (folder npm);
//   - the signing code of Tencent's Go SDK for API 3.0, which can also make signatures of API 2.0;
//   - requests in the shape that the official Python, Java, PHP, C++ and Go clients send, written anew from the
//     description of what they do;
//   - the TCP protocol with the habits of the official Java client: it asks for a route, logs in when it must, has many
//     polls open on one connection, repeats what was not answered;
//   - and every documented error of the API that can be provoked from outside.
//
// It holds only tests. They build the binary themselves; the first needs node and npm.
package compat
