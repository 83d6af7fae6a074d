package engine

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Who has a checkpoint's turn for others, and not to wait for it himself, lets them inherit it.
func TestHanded(t *testing.T) {
	for flag, want := range map[int]bool{0: true, unix.O_CLOEXEC: false} {
		fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		about, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
		_ = unix.Close(fd)
		if err != nil || handed(about) != want {
			t.Errorf("flag %#x: %v, %q", flag, err, about)
		}
	}
}
