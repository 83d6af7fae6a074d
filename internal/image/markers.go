package image

import (
	"path"
	"strings"
)

// MarkersDir is where the directories are, below the graph root, that say in the
// kernel's way what a layer's markers delete: beside the index, and no cache,
// since containers' records name them.
const MarkersDir = "cove/markers"

// Uppermost counts the directories among an image's that stand for its uppermost
// layer: one, and those for its markers above and below it.
func Uppermost(layers []string) int {
	own := func(i int) bool { return i < len(layers) && strings.HasPrefix(layers[i], MarkersDir+"/") }
	switch {
	case !own(0):
		return min(1, len(layers))
	case own(2) && path.Dir(layers[2]) == path.Dir(layers[0]):
		return 3
	}
	return 2
}
