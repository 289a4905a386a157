package sim

import "testing"

func TestSummaryAddsUp(t *testing.T) {
	one, other := NewSummary(), NewSummary()
	one.Run(Config{Seed: 50, Steps: 300}) // runs twice
	other.Run(Config{Seed: 51, Steps: 300})
	other.Failed = append(other.Failed, Failure{Seed: 3})
	one.Failed = append(one.Failed, Failure{Seed: 4})
	events, ok := one.Events+other.Events, one.OK+other.OK
	one.Merge(other)
	if one.Seeds != 2 || one.Twice != 1 || one.Events != events || one.OK != ok || one.Hits["leaders"] == 0 {
		t.Errorf("%+v", one)
	}
	if len(one.Failed) != 2 || one.Failed[0].Seed != 3 {
		t.Errorf("failures %v", one.Failed)
	}
	for _, row := range one.Rows() {
		if len(row) != 2 || row[0] == "" || row[1] == "" && row[0] != "faults" {
			t.Errorf("row %q", row)
		}
	}
}

func TestMutantsHaveNames(t *testing.T) {
	for _, m := range Mutants() {
		if m.Name == "" || m.Sentence == "" {
			t.Errorf("%+v", m)
		}
	}
	if len(Mutants()) < 8 {
		t.Errorf("%d mutants", len(Mutants()))
	}
}
