package library_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/image/library"
)

// The kernel takes as many directories as images may have layers, and no more.
func TestMostLayers(t *testing.T) {
	dir := t.TempDir()
	for i := range library.MostLayers + 1 {
		must(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(i)), 0o700))
	}
	for _, n := range []int{library.MostLayers, library.MostLayers + 1} {
		err := overlayOf(t, dir, n)
		if tooMany := n > library.MostLayers; tooMany != (err != nil) {
			t.Errorf("%d directories: %v", n, err)
		}
	}
}

// overlayOf makes an overlay of n directories, seen by nobody.
func overlayOf(t *testing.T, dir string, n int) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root: ", err)
	}
	must(t, err)
	defer unix.Close(fd)
	for i := range n {
		err := unix.FsconfigSetString(fd, "lowerdir+", filepath.Join(dir, strconv.Itoa(i)))
		if i == 0 && errors.Is(err, unix.EINVAL) {
			t.Skip("the kernel knows no lowerdir+ (Linux 6.8)")
		}
		if err != nil {
			return err
		}
	}
	return unix.FsconfigCreate(fd)
}
