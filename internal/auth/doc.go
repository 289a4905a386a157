// Package auth says who sent a request: it verifies the signature "v1" of the CMQ API 2.0 (http-api.md 1.4) and
// gives the account whose key made it. It does not decide what the account may do.
//
// The doors hand a Request (method, host, path, decoded parameters) to a Verifier, which looks keys up through
// the small Keys interface. Nothing here is remembered between requests but keyed hash states: clients repeat
// nonces, so there is no nonce table, only a window for the time stamp.
//
// A signature covers raw values joined by '&' and '=', so on a plain connection somebody in between can cut
// parameters anew. The doors refuse duplicate names; everything else of this kind needs TLS.
//
// The parameter Token belongs to temporary credentials. It is signed like any other parameter and otherwise
// without effect, because this server issues no temporary keys: an id that needs a token is an unknown id here.
package auth
