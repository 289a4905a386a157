// Package cmq is the vocabulary all other packages share: ids, attributes, requests to shards and the
// catalogue of errors. It holds no behaviour beyond checking and naming, and imports nothing of ours.
package cmq
