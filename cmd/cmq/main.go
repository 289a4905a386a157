// Command cmq is everything: the server, a cluster for trying things out, and the client for the command line.
//
// Each file holds one command. Servers are built by package node; client commands use the public client package
// only. The exit codes are in exit.go and in the help text.
package main

import (
	"os"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), exit: os.Exit, start: startNode}
	os.Exit(a.run(os.Args[1:]))
}
