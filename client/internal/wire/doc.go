// Package wire is the TCP protocol of CMQ as bytes: it writes the frames of a client and reads those of a server. It
// opens no connection and keeps nothing between two frames; package link does that.
//
// A frame, in both directions:
//
//	offset  size  value
//	0       2     zero
//	2       4     length of the whole frame, these 6 bytes included, little-endian
//	6       …     one protobuf (proto2) message, CMQProto
//
// CMQProto carries seqno (1), cmd (2), in answers result (3) and error (4), and one body whose field number depends on
// the command. Request and Answer are the union of all bodies; the numbers of the fields stand beside their members.
package wire

// Cmd is what a frame asks for; the answer repeats it.
type Cmd int32

// The commands of the protocol.
const (
	Auth         Cmd = 1020
	Send         Cmd = 1021
	BatchSend    Cmd = 1022
	Receive      Cmd = 1023
	BatchReceive Cmd = 1024
	Delete       Cmd = 1025
	BatchDelete  Cmd = 1026
	Publish      Cmd = 1027
	BatchPublish Cmd = 1028
	Heartbeat    Cmd = 1040
	Confirm      Cmd = 1041 // commit or roll back prepared messages
	Query        Cmd = 1042 // from the server: what became of a prepared message?

	ChangeVisibility Cmd = 10001 // an extension: locks end at another time
	StopWaiting      Cmd = 10002 // an extension: a receive is to be answered now; it has no answer itself
	OpenSession      Cmd = 10003 // an extension: begins a producer session
)

// Results that are about the connection, not about the request.
const (
	NotAuthorized     = 306 // the request was not looked at: this connection has not authenticated
	AlreadyAuthorized = 307 // answer to a second auth, as good as 0
)

const (
	headerLen = 6

	// MaxFrame is the longest frame a reader accepts: 256 messages of 64 KiB, or 16 of 1 MiB, and what is around them.
	MaxFrame = 32 << 20
)

// Kinds of protobuf fields that the protocol uses.
const (
	kindVarint  = 0
	kindFixed64 = 1
	kindBytes   = 2
	kindFixed32 = 5
)
