package main

import (
	"testing"
	"time"
)

func at(begin, end int, facts ...fact) act {
	t := time.Unix(1000, 0)
	return act{begin: t.Add(time.Duration(begin) * time.Second), end: t.Add(time.Duration(end) * time.Second), facts: facts}
}

func TestContradictions(t *testing.T) {
	on, off := fact{"name a", didOn}, fact{"name a", didOff}
	renamed := at(4, 5, fact{"name b", didOff}, fact{"name a", didOn})
	renamed.from, renamed.to = "b", "a"
	for _, c := range []struct {
		name string
		acts []act
		want int
	}{
		{"nothing", nil, 0},
		{"made and seen", []act{at(0, 1, on), at(2, 3, fact{"name a", sawOn})}, 0},
		{"made and lost", []act{at(0, 1, on), at(2, 3, fact{"name a", sawOff})}, 1},
		{"made and perhaps removed", []act{at(0, 1, on), at(0, 9, fact{"name a", mayOff}), at(2, 3, fact{"name a", sawOff})}, 0},
		{"removed before it was made", []act{at(0, 1, off), at(2, 3, on), at(4, 5, fact{"name a", sawOff})}, 1},
		{"removed and still there", []act{at(0, 1, on), at(2, 3, off), at(4, 5, fact{"name a", sawOn})}, 1},
		{"made twice", []act{at(0, 1, on), at(2, 3, on)}, 0}, // that it was off before is another fact:
		{"free and made twice", []act{at(0, 1, on), at(2, 3, on, fact{"name a", sawOff})}, 1},
		{"at the same time", []act{at(0, 3, on), at(2, 5, fact{"name a", sawOff})}, 0},
		{"renamed while it was being removed", []act{renamed, at(3, 9, fact{"name b", mayOff}), at(6, 7, fact{"name a", sawOff})}, 0},
		{"renamed and lost", []act{renamed, at(6, 7, fact{"name a", sawOff})}, 1},
	} {
		if got := contradictions(c.acts); len(got) != c.want {
			t.Errorf("%s: %q, want %d", c.name, got, c.want)
		}
	}
}
