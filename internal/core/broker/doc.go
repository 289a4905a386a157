// Package broker is the state of one data set: its shards, the shards that were dropped, and what has arrived
// from the dead lists of other shards. It is a function of the log: Apply takes the batches in log order
// and gives the results; every replica that applied the same batches has the same Digest.
//
// It reads no clock: a batch brings its time, and time never goes back. It knows positions, not bodies: where
// a position lies in the log is what Output.Placed tells the reference log. Questions about the state take
// a time as well and change nothing that shows. A Broker is used by one goroutine.
package broker
