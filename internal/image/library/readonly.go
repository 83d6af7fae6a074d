package library

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	storagetypes "go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// overReadOnly has the storage library read a store that is on a read-only file
// system, which it would open for writing alone: as an additional store of an empty
// one under the run root. It tells whether it has.
func overReadOnly(o *storagetypes.StoreOptions) (bool, error) {
	// After an error of the disk access(2) says that all is well, open(2) does not.
	fd, err := unix.Open(cmp.Or(o.ImageStore, o.GraphRoot), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		_ = unix.Close(fd)
	}
	if !errors.Is(err, unix.EROFS) || o.GraphDriverName == "" {
		return false, nil
	}
	from := o.GraphRoot
	if o.ImageStore != "" {
		from += "," + o.ImageStore
	}
	o.GraphRoot, o.ImageStore = filepath.Join(o.RunRoot, "cove", "read-only"), ""
	if err := os.MkdirAll(o.GraphRoot, 0o700); err != nil {
		return false, err
	}
	o.GraphDriverOptions = append(o.GraphDriverOptions, o.GraphDriverName+".imagestore="+from)
	return true, nil
}

// writable is library for who changes the store.
func (s *Store) writable() (*library, error) {
	lib, err := s.library()
	if err == nil && lib.readOnly {
		root, _ := s.graphRoot()
		return nil, cove.E("change image store", root, cove.Unavailable, unix.EROFS)
	}
	return lib, err
}
