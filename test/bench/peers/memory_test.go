package main

import "testing"

func TestFreeMemory(t *testing.T) {
	got, err := freeMemory("MemTotal:       24684212 kB\nMemFree:        15498476 kB\nMemAvailable:   23710464 kB\n")
	if want := int64(15498476) << 10; got != want || err != nil {
		t.Errorf("got %d, %v, want %d", got, err, want)
	}
	for _, bad := range []string{"", "MemTotal: 5 kB\n", "MemFree: much kB\n"} {
		if _, err := freeMemory(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestTouch(t *testing.T) {
	if err := touch(3 << 20); err != nil {
		t.Error(err)
	}
}
