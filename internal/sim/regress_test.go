package sim

import "testing"

// Seeds that once broke a promise, by what went wrong. What a seed does changes when the code changes, so a row proves
// little for long; the named tests of the packages hold the bugs themselves.
var regressions = []struct {
	wrong string
	Config
}{
	{"an empty entry read back from the log was taken for a damaged batch", Config{Seed: 2, Faults: []string{}}},
	{"a second rewind did not bring back what was deleted since the first", Config{Seed: 88}},
	{"a second rewind did not bring back what was deleted since the first", Config{Seed: 115}},
	{"a second rewind did not bring back what was deleted since the first", Config{Seed: 139}},
	{"a replica that was started again while it fetched a snapshot was left alone for 15 seconds", Config{Seed: 359, Mode: Liveness}},
	{"a send that was in a snapshot was called dropped, and sent again", Config{Seed: 0x243}},
	{"a follower got the entries of one leader and led by the time of the leader before", Config{Seed: 0x15d}},
	{"two deletes at a time with one handle were taken for a refused delete", Config{Seed: 23}},
	{"a single node that was late made up for it in a restart, and locks seemed to end early", Config{Seed: 10, Nodes: 1}},
	{"the time of a leader that committed nothing was taken for cluster time", Config{Seed: 40}},
	{"a leader with a slow disk served too slowly for clients with little patience", Config{Seed: 165, Mode: Liveness}},
	{"a leader went on from what it had taken for the time when it led before", Config{Seed: 0x5d, Mode: Liveness}},
	{"a leader whose disk was full asked only once for another to lead", Config{Seed: 0x1a9, Mode: Liveness}},
	{"an image was installed over entries that were acknowledged behind it", Config{Seed: 0x261, Mode: Liveness}},
	{"an image was installed over entries that were acknowledged behind it", Config{Seed: 0x2ee}},
	{"what was left of a log was long enough, and of another branch", Config{Seed: 0x601, Mode: Liveness}},
	{"a side file on a bad sector kept a node without its last segment from starting", Config{Seed: 0xb2c}},
	{"a damaged segment stayed in the log that was kept for another", Config{Seed: 0xcde}},
	{"an answer to an earlier process was taken for one to this", Config{Seed: 0x12a9, Mode: Liveness}},
	{"messages committed one by one were sent at the same time on some replicas", Config{Seed: 0x17a4}},
	{"a file that could not be opened was taken for a broken promise", Config{Seed: 0x1a6e}},
	{"messages of a replaced log were counted on and then dropped with it", Config{Seed: 0xe24}},
	{"a sum that a replica had told before it was healed and started again was believed", Config{Seed: 0x8df, Mode: Liveness}},
}

func TestRegressions(t *testing.T) {
	for _, r := range regressions {
		t.Run(r.wrong, func(t *testing.T) { simulate(t, r.Config) })
	}
}
