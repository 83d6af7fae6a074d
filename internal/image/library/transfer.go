package library

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"

	"go.podman.io/common/pkg/config"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/image/index"
)

const transferPrefix = "cove-transfer-"

// transfers are the directories that this process has locked, by path, for as
// long as it lives: an engine that is closed or reloaded may have transfers that
// go on.
var transfers = struct {
	sync.Mutex
	fds map[string]int
}{fds: map[string]int{}}

// transferDir gives the directory for blobs on their way into the store or out
// of it. The libraries remove what they put there, unless they are killed. So
// the store has a directory of its own in image_copy_tmp_dir, every process
// that may put something into it keeps a shared lock on it as long as it lives,
// and whoever finds nobody else's lock empties it.
func transferDir(graphRoot, parent string) (string, error) {
	if parent == "" {
		conf, err := config.Default()
		if err == nil {
			parent, err = conf.ImageCopyTmpDir()
		}
		if err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256([]byte(graphRoot))
	dir := filepath.Join(parent, transferPrefix+hex.EncodeToString(sum[:8]))
	fd, err := openOwn(dir)
	if err == unix.EACCES {
		// Everybody may write to /var/tmp, and somebody was there before us.
		dir = filepath.Join(graphRoot, "cove", "transfer")
		fd, err = openOwn(dir)
	}
	if err != nil {
		return parent, nil // what reads only needs none; a transfer will say what is wrong
	}
	transfers.Lock()
	defer transfers.Unlock()
	held, ours := transfers.fds[dir]
	if ours && sameFile(held, fd) {
		return dir, unix.Close(fd)
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	if err := index.Lock(context.Background(), fd, dir, unix.LOCK_SH, index.Patience); err != nil {
		_ = unix.Close(fd)
		return "", err
	}
	if ours { // of a directory that has been removed, empty
		_ = unix.Close(held)
	}
	transfers.fds[dir] = fd
	return dir, nil
}

// sameFile tells whether two descriptors are of one file.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// openOwn opens a directory, made if it is not there; EACCES when it is not
// this user's.
func openOwn(dir string) (int, error) {
	err := unix.Mkdir(dir, 0o700)
	if err == unix.ENOENT {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return -1, err
		}
		err = unix.Mkdir(dir, 0o700)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return -1, unix.EACCES
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		_ = unix.Close(fd)
		return -1, unix.EACCES
	}
	return fd, nil
}
