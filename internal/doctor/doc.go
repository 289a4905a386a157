// Package doctor says what is wrong with a data directory or a running node, what that means, and what to do. It changes nothing.
//
// Of a directory it checks everything that a node would read, and more: every byte against its checksum, what refers to what, whose it
// all is, and the room on its disk (package inspect does the looking). Of a running node it judges what that tells on its admin
// address (package adminapi). The rules are functions from what was seen to findings; each finding is one Finding.
//
// Command cmq doctor is the caller.
package doctor
