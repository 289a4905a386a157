// Package sim runs a whole cluster in one goroutine: the real replicas (package set), state machines (engine and core)
// and stores on simulated disks, a simulated network and simulated clocks, clients that send, receive and delete, and
// faults of every kind. Whatever happens follows from the seed, so that a failure can be repeated as often as it takes
// to understand it.
//
//	            heap of events, ordered by (time, number)
//	                      │
//	   ┌──────────┬───────┴───────┬────────────┐
//	   ▼          ▼               ▼            ▼
//	clients    network          nodes        faults
//	(history)  (links)     ┌── replica ──┐  (crash, cut, pause, jump, …)
//	                       │  Ready()    │
//	                       ▼             ▼
//	                    messages     disk jobs ──► vfs.Disk
//
// Run simulates one seed. The oracle looks on while it runs (one leader a term, equal logs, equal states, time never
// early); at the end package check judges what the clients saw. DESIGN.md explains the choices.
//
// Raft draws its election timeouts from crypto/rand.Reader, which belongs to the process. Run puts a seeded reader in its
// place and takes it out again, so a process must not run two simulations at a time, nor do anything that needs secrets
// meanwhile.
package sim
