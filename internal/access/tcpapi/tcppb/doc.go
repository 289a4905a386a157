// Package tcppb is generated code for the messages of the TCP protocol, from cmq.proto. It is for tests: they compare
// the door's own readers and writers with it. Nothing else may import it.
//
// It is made by protoc with protoc-gen-go of the version of google.golang.org/protobuf in go.mod:
//
//	protoc --go_out=. --go_opt=paths=source_relative cmq.proto
package tcppb
