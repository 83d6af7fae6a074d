package serve

import (
	"os"
	"path/filepath"
	"testing"
)

// The monitors' cgroup may go between its making and a monitor's joining it.
func TestEnterCgroupMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cove-monitor")
	// Not of the kernel's, so the directory comes back without its file.
	if f := enterCgroups([]string{dir}); f == nil {
		t.Fatal("there is a file of members in an ordinary directory")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if f := enterCgroups([]string{filepath.Join(t.TempDir(), "a", "b")}); f == nil {
		t.Error("joined a cgroup below one that is not there")
	}
}
