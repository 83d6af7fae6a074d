package library

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"go.podman.io/storage"

	"github.com/cove-engine/cove"
)

// tower has layers that are called by their depth.
type tower struct{ storage.Store }

func (tower) Layer(id string) (*storage.Layer, error) {
	n, err := strconv.Atoi(id)
	parent := strconv.Itoa(n - 1)
	if n == 1 {
		parent = ""
	}
	return &storage.Layer{ID: id, Parent: parent}, err
}

// An image has as many layers as a container's overlay takes, and no more.
func TestTooManyLayers(t *testing.T) {
	notes, err := os.Create(filepath.Join(t.TempDir(), "copies"))
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	s := &incoming{Store: tower{}, copies: &copies{notes}, depths: map[string]int{}}
	for parent, refused := range map[int]bool{1: false, mostLayers - 1: false, mostLayers: true, mostLayers * 3: true} {
		_, _, err := s.making("", strconv.Itoa(parent), nil)
		if cove.Is(err, cove.Invalid) != refused {
			t.Errorf("above %d: %v", parent, err)
		}
	}
}
