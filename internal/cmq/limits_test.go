package cmq

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "a": true, "Z": true, "a_b-9": true, "9a": false, "-a": false, "_a": false, "a.b": false, "a/b": false,
		"a b": false, "a\x00": false, "a\n": false, "é": false, "aé": false, "a[": false, "@a": false, "`a": false, "{a": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false,
	} {
		if ValidName(name) != want || ValidName([]byte(name)) != want {
			t.Errorf("ValidName(%q) is not %v", name, want)
		}
	}
	if FoldName("OrDers-1") != "orders-1" {
		t.Error("FoldName does not fold")
	}
}

func TestRange(t *testing.T) {
	r := Range{1, 3}
	for v, want := range map[int64]bool{0: false, 1: true, 3: true, 4: false} {
		if r.Holds(v) != want {
			t.Errorf("Holds(%d) is not %v", v, want)
		}
	}
}

func TestSettingsApply(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	yes := true
	all := QueueSettings{MaxMsgHeapNum: n(1), PollingWaitSeconds: n(2), VisibilityTimeout: n(3), MaxMsgSize: n(4), MsgRetentionSeconds: n(600),
		RewindSeconds: n(6), Trace: &yes, Transaction: &yes, FirstQueryInterval: n(8), MaxQueryCount: n(9), MaxInFlight: n(10), DeadLetter: &DeadLetterSettings{Queue: "d", Policy: PolicyAge, MaxTimeToLive: 500}}
	got, err := all.Apply(DefaultQueueAttributes(), 7)
	want := QueueAttributes{MaxMsgHeapNum: 1, PollingWait: 2 * time.Second, VisibilityTimeout: 3 * time.Second, MaxMsgSize: 4, MsgRetention: 600 * time.Second,
		Rewind: 6 * time.Second, Trace: true, Transaction: TransactionPolicy{On: true, FirstQueryInterval: 8 * time.Second, MaxQueryCount: 9}, MaxInFlight: 10, DeadLetter: DeadLetterPolicy{Queue: 7, Policy: PolicyAge, MaxTimeToLive: 500 * time.Second}}
	if err != nil || got != want {
		t.Errorf("all given: %+v, %v", got, err)
	}
	if shard := got.ShardAttributes(); shard.MaxInFlight != 10 || shard.MaxMsgHeapNum != 1 || shard.Transaction != want.Transaction {
		t.Errorf("what the shards get: %+v", shard)
	}
	if got, err := new(QueueSettings).Apply(want, 0); err != nil || got != want {
		t.Errorf("none given: %+v, %v", got, err)
	}
	if _, err := (&QueueSettings{RewindSeconds: n(601)}).Apply(want, 0); !errors.Is(err, ErrRewindRetention) {
		t.Errorf("rewind beyond retention: %v", err)
	}
	if _, err := (&QueueSettings{MsgRetentionSeconds: n(500)}).Apply(want, 0); !errors.Is(err, ErrDeadLetterParams) {
		t.Errorf("retention not above time to live: %v", err)
	}
	count := QueueSettings{DeadLetter: &DeadLetterSettings{Queue: "d", Policy: PolicyReceives, MaxReceiveCount: 9, MaxTimeToLive: 1}}
	if got, err := count.Apply(want, 8); err != nil || got.DeadLetter != (DeadLetterPolicy{Queue: 8, MaxReceiveCount: 9}) {
		t.Errorf("policy 0: %+v, %v", got.DeadLetter, err)
	}
}
