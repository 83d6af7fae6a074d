package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pack writes the file or directory src as a tar stream, its first entry
// named name; "" leaves a directory's contents at the top.
func pack(w io.Writer, src, name string) error {
	tw := tar.NewWriter(w)
	links := map[fileID]string{}
	src, err := filepath.EvalSymlinks(src) // only the source itself is followed
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(src))
	if err != nil {
		return err
	}
	defer root.Close()
	base := filepath.Base(src)
	if src == "/" {
		base = "."
	}
	tree := branch{root: root}
	defer tree.cut(0)
	err = fs.WalkDir(&tree, base, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := tree.Stat(p)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, base), "/")
		if base == "." {
			rel = p
		}
		as := path.Join(name, rel)
		if as == "" || as == "." {
			if !st.IsDir() {
				as = base
			} else {
				as = "."
			}
		}
		return packOne(tw, &tree, p, as, st, links)
	})
	return errors.Join(err, tw.Close())
}

// packOne writes one entry.
func packOne(tw *tar.Writer, tree *branch, p, as string, st fs.FileInfo, links map[fileID]string) error {
	if st.Mode()&fs.ModeSocket != 0 {
		return nil // as tar(1): a socket is nobody's without its server
	}
	target := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		dir, err := tree.at(path.Dir(p))
		if err != nil {
			return err
		}
		if target, err = dir.Readlink(path.Base(p)); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, target)
	if err != nil {
		return err
	}
	h.Name = as
	if st.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname, h.Format = "", "", tar.FormatPAX
	if id, n := identity(st); n > 1 && st.Mode().IsRegular() {
		if first, ok := links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return tw.WriteHeader(h)
		}
		links[id] = as
	}
	if !st.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	f, err := tree.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, f, h.Size); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", p, err)
	}
	return nil
}

// entryName is where an entry of a stream whose first entry is first goes
// when that one is to be named name ("" drops it).
func entryName(entry, first, name string) (string, error) {
	e, f := path.Clean("/" + entry)[1:], path.Clean("/" + first)[1:]
	switch {
	case f == "":
		return path.Join(name, e), nil
	case e == f:
		return name, nil
	case strings.HasPrefix(e, f+"/"):
		return path.Join(name, e[len(f)+1:]), nil
	}
	return "", fmt.Errorf("archive entry %q lies outside of %q", entry, first)
}

// rename copies a tar stream with its first entry renamed; "" leaves that one out,
// a directory whose contents are wanted.
func rename(w io.Writer, tr *tar.Reader, first *tar.Header, name string) error {
	tw := tar.NewWriter(w)
	top := first.Name
	for h := first; ; {
		as, err := entryName(h.Name, top, name)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			if h.Linkname, err = entryName(h.Linkname, top, name); err != nil {
				return err
			}
		}
		h.Name = as
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if as != "" {
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
			if _, err := io.Copy(tw, tr); err != nil {
				return err
			}
		}
		if h, err = tr.Next(); errors.Is(err, io.EOF) {
			return tw.Close()
		} else if err != nil {
			return err
		}
	}
}

// unpack writes a container's tar stream below root, its first entry named
// name ("" puts a directory's contents there). The stream is hostile: no
// entry leaves root, ownership is the caller's, and devices are passed over, as
// podman does: what the container may not open would be open to who may open the copy.
func unpack(root *os.Root, tr *tar.Reader, first *tar.Header, name string, overwrite bool) error {
	top := first.Name
	type dir struct {
		name string
		h    *tar.Header
	}
	var dirs []dir
	devices := map[string]bool{} // by all their names
	tree := branch{root: root}
	defer tree.cut(0)
	for h := first; ; {
		as, err := entryName(h.Name, top, name)
		if err != nil {
			return err
		}
		if as == "" {
			as = "."
		}
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeLink && devices[h.Linkname] {
			devices[h.Name] = true
		} else if err := unpackOne(&tree, tr, h, as, top, name, overwrite); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir && as != "." {
			dirs = append(dirs, dir{as, h})
		}
		if h, err = tr.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	// Directories last and innermost first: their modes may forbid writing
	// and their times change with their contents.
	for i := len(dirs) - 1; i >= 0; i-- {
		d := dirs[i]
		above, err := tree.at(path.Dir(d.name))
		if err != nil {
			return err
		}
		base := path.Base(d.name)
		if err := above.Chmod(base, d.h.FileInfo().Mode().Perm()); err != nil {
			return err
		}
		if err := above.Chtimes(base, d.h.ModTime, d.h.ModTime); err != nil {
			return err
		}
	}
	return nil
}

func unpackOne(tree *branch, tr *tar.Reader, h *tar.Header, as, top, name string, overwrite bool) error {
	dir, err := tree.at(path.Dir(as))
	if errors.Is(err, fs.ErrNotExist) {
		if err = tree.root.MkdirAll(path.Dir(as), 0o755); err == nil {
			dir, err = tree.at(path.Dir(as))
		}
	}
	if err != nil {
		return err
	}
	base := path.Base(as)
	old, err := dir.Lstat(base)
	exists := err == nil
	if h.Typeflag == tar.TypeDir {
		if as == "." {
			return nil
		}
		if exists && old.IsDir() {
			return nil
		}
		if exists {
			if !overwrite {
				return fmt.Errorf("%s: cannot replace a file by a directory without --overwrite", as)
			}
			if err := dir.Remove(base); err != nil {
				return err
			}
		}
		return dir.Mkdir(base, 0o700)
	}
	if exists {
		if old.IsDir() && !overwrite {
			return fmt.Errorf("%s: cannot replace a directory by a file without --overwrite", as)
		}
		if err := dir.RemoveAll(base); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		// Without set-user-ID bits: the file is the caller's now.
		f, err := dir.OpenFile(base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, tr)
		err = errors.Join(err, f.Chmod(h.FileInfo().Mode().Perm()), f.Close())
		if err != nil {
			return err
		}
		return dir.Chtimes(base, h.ModTime, h.ModTime)
	case tar.TypeSymlink:
		return dir.Symlink(h.Linkname, base)
	case tar.TypeLink:
		target, err := entryName(h.Linkname, top, name)
		if err != nil {
			return err
		}
		return tree.root.Link(target, as)
	case tar.TypeFifo:
		f, err := dir.Open(".")
		if err != nil {
			return err
		}
		err = os.NewSyscallError("mkfifo", unix.Mkfifoat(int(f.Fd()), base, 0o600))
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		return errors.Join(dir.Chmod(base, h.FileInfo().Mode().Perm()), dir.Chtimes(base, h.ModTime, h.ModTime))
	}
	return nil
}

// fileID tells files of one machine apart.
type fileID struct{ dev, ino uint64 }

// identity is a file's ID and how many names it has.
func identity(st fs.FileInfo) (fileID, uint64) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 0
	}
	return fileID{uint64(s.Dev), s.Ino}, uint64(s.Nlink)
}
