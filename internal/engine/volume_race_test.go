package engine

import (
	"os"
	"sync"
	"testing"

	"github.com/cove-engine/cove"
)

// TestVolumeCreateRemove: who creates a volume while somebody removes it leaves
// no directory and no lock behind that nobody has recorded.
func TestVolumeCreateRemove(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				_, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, false)
				if err != nil && !cove.Is(err, cove.Exists) {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 500 {
				_, err := e.RemoveVolume(t.Context(), "v", RemoveOptions{})
				if err != nil && !cove.Is(err, cove.NotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := e.RemoveVolume(t.Context(), "v", RemoveOptions{}); err != nil && !cove.Is(err, cove.NotFound) {
		t.Error(err)
	}
	for _, dir := range []string{e.conf.Volumes(), e.conf.Locks()} {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("left in %s: %s", dir, left[0].Name())
		}
	}
}

// TestVolumeMadeAnew: who has seen a volume that is half removed, and waited for
// whoever removes it, leaves the next volume of that name alone.
func TestVolumeMadeAnew(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	if _, err := e.CreateVolume(t.Context(), cove.Volume{Name: "v"}, false); err != nil {
		t.Fatal(err)
	}
	calls := 0
	err := e.afterGoing(t.Context(), func() error {
		if calls++; calls == 1 {
			return goingVolume("v")
		}
		return nil
	})
	if err != nil || calls != 2 {
		t.Errorf("%d transactions, %v", calls, err)
	}
	if _, err := e.findVolume("v"); err != nil || !exists(e.volumeData("v")) {
		t.Error("it was removed: ", err)
	}
}
