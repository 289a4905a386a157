// Package node wires one cmq node together, and nothing else. It builds the parts in the order of the picture, from the
// bottom up, and stops them from the top down.
//
//	   clients            operators             other nodes
//	      │                   │                      │
//	httpapi.Door
//	tcpapi.Door           admin server        transport.Transport
//	      │                   │                 │          │
//	      └──► route.Router ◄─┴─── calls ───────┘          │ messages
//	            │        │                                 │
//	 controller.Meta   Node.Start ► engine.Service         │
//	            │        │              │                  │
//	            └────────┴──────► set.Host ◄───────────────┘
//	                                    │
//	 dispatch.Mover ◄── dead letters ── set.Replica ──► store
//	 push.Dispatcher ── delivers what is published, of the sets this node leads, to endpoints
//
// A node holds one Host for each set it has a replica of; set 0 is the controller's.
package node
