package index

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// Mark is what one file looked like when an entry was made. The file's
// absence is a mark too.
type Mark struct {
	Path   string `json:"path"` // relative to the graph root unless absolute
	Absent bool   `json:"absent,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
	// Size in bytes and modification time in nanoseconds since 1970;
	// not kept for directories of layers, where only the identity counts.
	Size  int64 `json:"size,omitempty"`
	MTime int64 `json:"mtime,omitempty"`
	// Identity says that only the inode counts.
	Identity bool `json:"identity,omitempty"`
	// Token is the content of a containers/storage lock file: 64 random
	// bytes, new at every write (storage's pkg/lockfile). Empty before the
	// first write, so Locked tells "no token" from "not a lock file".
	Token  []byte `json:"token,omitempty"`
	Locked bool   `json:"locked,omitempty"`
}

// tokenSize is more than the 64 bytes of a last-write token, so that a longer
// one is noticed.
const tokenSize = 128

// MarkFile marks a file or directory by inode, size and modification time.
func MarkFile(root, path string) Mark {
	m := Mark{Path: Relative(root, path)}
	var st syscall.Stat_t
	if syscall.Stat(join(root, path), &st) != nil {
		m.Absent = true
		return m
	}
	m.Inode, m.Size, m.MTime = st.Ino, st.Size, mtime(&st)
	return m
}

// MarkIdentity marks that path is still the same file or directory, whatever
// is in it.
func MarkIdentity(root, path string) Mark {
	m := MarkFile(root, path)
	m.Size, m.MTime, m.Identity = 0, 0, true
	return m
}

// MarkLock marks a lock file of containers/storage by the token of its last
// writer.
func MarkLock(root, path string) Mark {
	m := Mark{Path: Relative(root, path), Locked: true}
	token, err := readToken(join(root, path))
	if err != nil {
		m.Absent = true
		return m
	}
	m.Token = token
	return m
}

// holds reports whether the file still looks as marked.
func (m *Mark) holds(root string) bool {
	path := join(root, m.Path)
	if m.Locked {
		token, err := readToken(path)
		if err != nil {
			return m.Absent && errors.Is(err, syscall.ENOENT)
		}
		return !m.Absent && bytes.Equal(token, m.Token)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return m.Absent && (err == syscall.ENOENT || err == syscall.ENOTDIR)
	}
	if m.Absent || st.Ino != m.Inode {
		return false
	}
	return m.Identity || st.Size == m.Size && mtime(&st) == m.MTime
}

func mtime(st *syscall.Stat_t) int64 { return st.Mtim.Nano() }

func readToken(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	buf := make([]byte, tokenSize)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return buf[:n], nil
}

func join(root, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(root, path)
}

// Relative makes paths below the graph root relative, so that a graph root
// may be moved or mounted elsewhere.
func Relative(root, path string) string {
	if !filepath.IsAbs(path) {
		return path
	}
	if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
