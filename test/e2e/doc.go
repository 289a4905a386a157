// Package e2e tests the program as a user meets it: the built binary, its command line and real processes that are
// killed. It has no code outside its tests; make e2e, make e2e-big and make failover run them.
package e2e
