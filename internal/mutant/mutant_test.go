package mutant

import "testing"

func TestEveryBugHasANameAndASentence(t *testing.T) {
	names := Names()
	if len(names) != int(end)-1 {
		t.Fatalf("%d names for %d bugs", len(names), int(end)-1)
	}
	for i, name := range names {
		id := ID(i + 1)
		if Parse(name) != id {
			t.Errorf("%s does not parse to its own id", name)
		}
		if name == None.String() || id.Sentence() == None.Sentence() {
			t.Errorf("bug %d is not described", id)
		}
	}
	if Parse("no such bug") != None {
		t.Error("an unknown name found a bug")
	}
}

func TestNoneIsNeverOn(t *testing.T) {
	if On(None) {
		t.Error("None is on")
	}
}
