// Command bench measures what cmq promises about size: a backlog far larger than memory, disk space that comes back, a hundred
// thousand queues, nodes that come back after being wiped or left behind, millions of delayed messages, full disks. It starts
// `cmq server` processes of its own on loopback, in a directory that it removes again, and prints a few lines of figures for
// each subject. It exits with 1 when a bound that is stated in the output is broken.
//
//	go run ./test/bench backlog -messages 2000000 -size 1024 -nodes 1
//
// See README.md for all subjects. It is a tool to be run by hand and no part of the tests.
package main
