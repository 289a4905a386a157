// Package command is the form in which operations travel: one batch is the data of one raft entry and holds
// operations of many queues and the bodies they bring. It encodes and decodes; what an operation means is
// decided in queue and broker.
//
// The leader fills a Builder and calls Finish; every replica calls Parse and walks Batch.Ops. A reader of
// one message needs neither: ReadSlot and ReadMessage find it by slot and check that message only.
package command
