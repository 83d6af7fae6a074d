package engine

import "testing"

// A program with the engine in it may be called as it likes, and so may cove.
func TestIsCove(t *testing.T) {
	for main, want := range map[string]bool{
		"github.com/cove-engine/cove/cmd/cove":       true,
		"github.com/cove-engine/cove/cmd/cove-full":  true,
		"github.com/cove-engine/cove/examples/embed": false,
		"example.org/cove-board/cmd/cove":            false,
		"":                                           false,
	} {
		if isCove(main) != want {
			t.Errorf("%q: not %t", main, want)
		}
	}
}
