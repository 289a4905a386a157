// Package httpapi is the HTTP door: CMQ's API 2.0 as its published clients speak it. It parses a request,
// verifies its signature, calls the Backend and renders the answer; it decides nothing about queues and topics.
//
// A Door is a plain http.Handler: it accepts every path, exactly as sent. Answers always have the status 200
// and a JSON body; whether the call worked is in its field "code".
//
// Order of the checks; the first that fails answers:
//
//  1. size and framing of the body (10420), method GET or POST (10410)
//  2. form of the parameters (10420), their number (10110), names (10310), duplicates (10330)
//  3. Action is given (10280); Timestamp, Nonce, SecretId and Signature are given (10390) and numbers (10360, 10350)
//  4. time stamp and signature (10030), key (10270, 10080)
//  5. the action exists (10430)
//  6. the action's parameters, in the order in which the API documents them
//  7. what only the Backend knows
//
// Parameters of a GET are in the query, those of a POST in the body whatever its Content-Type says, and in the
// query too if there is one; the same name twice is refused wherever it stands. Unknown names are ignored.
//
// The files: door.go (one request from start to end), await.go (the wait for the Backend), server.go and conns.go
// (connections), body.go and form.go (bytes to
// parameters), params.go (parameters to values), reply.go and json.go (values to bytes), and one file per
// action or family of actions.
package httpapi
