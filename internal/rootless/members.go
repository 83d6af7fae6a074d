package rootless

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// members is the file by which the user namespace is found. Its text is the
// namespace's inode number. Every process of cove in the namespace, command
// or monitor, holds a read lock on the byte whose offset is its process ID;
// the kernel tells who holds one (F_GETLK) and releases those of the dead.
// Byte 0 is locked by whoever looks for the namespace or makes it.
//
// Where the file is lost, with a deleted run directory or because it is looked
// for in another one, the processes themselves are looked for. (Only two
// commands that begin at the same moment with different directories, where
// there is no /run/user and nothing runs yet, do not find each other.)
type members struct {
	fd   int
	path string
}

const memberFile = "cove-userns"

// RuntimeDir gives the user's directory for what a reboot may take.
func RuntimeDir(uid int) (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if !filepath.IsAbs(dir) || !private(dir, false) {
			return "", cove.E("", "", cove.Invalid, fmt.Errorf("XDG_RUNTIME_DIR directory %q is not owned by the current user", dir))
		}
		return dir, nil
	}
	id := strconv.Itoa(uid)
	if dir := "/run/user/" + id; private(dir, true) {
		return dir, nil
	}
	dir := filepath.Join(os.TempDir(), "storage-run-"+id)
	_ = os.Mkdir(dir, 0o700)
	if !private(dir, true) {
		return "", cove.E("", "", cove.Denied, fmt.Errorf("%q exists and does not belong to the current user alone", dir))
	}
	return dir, nil
}

// private tells whether a directory is this user's; strictly, that nobody else
// may write to it either.
func private(dir string, strictly bool) bool {
	var st unix.Stat_t
	stat := unix.Stat
	if strictly {
		stat = unix.Lstat
	}
	return stat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == os.Geteuid() && (!strictly || st.Mode&0o022 == 0)
}

func openMembers(uid int) (*members, error) {
	dir, err := RuntimeDir(uid)
	if err != nil {
		return nil, err
	}
	// All sessions of the user are to look at the same place, whatever their
	// environment says.
	if common := "/run/user/" + strconv.Itoa(uid); private(common, true) {
		dir = common
	}
	m := &members{path: filepath.Join(dir, memberFile)}
	m.fd, err = unix.Open(m.path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, m.because(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(m.fd, &st); err != nil {
		return nil, m.because(err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, cove.E("find user namespace", m.path, cove.Denied, errors.New("it is not a file of this user"))
	}
	return m, nil
}

func (m *members) because(err error) error {
	return cove.E("find user namespace", m.path, cove.Internal, err)
}

// patience is how long somebody may take to enter.
const patience = 10 * time.Second

// find gives a descriptor of the namespace, -1 if there is none. It returns
// with byte 0 locked.
func (m *members) find() (int, error) {
	if err := m.lock(unix.F_SETLKW, unix.F_WRLCK, 0); err != nil {
		return -1, m.because(err)
	}
	want := m.inode()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Microsecond) {
		pids, err := m.holders()
		if err != nil {
			return -1, m.because(err)
		}
		if len(pids) == 0 {
			return m.search()
		}
		for _, pid := range pids {
			if fd, ino, err := namespaceOf(pid); err == nil {
				if ino == want {
					return fd, nil
				}
				_ = unix.Close(fd)
			}
		}
		// Those who hold locks are on their way in.
		if time.Now().After(deadline) {
			return -1, cove.E("find user namespace", m.path, cove.Unavailable, fmt.Errorf("process %d is to be in it and is not", pids[0]))
		}
	}
}

// found writes down which namespace it is.
func (m *members) found(ns int) error {
	var st unix.Stat_t
	err := unix.Fstat(ns, &st)
	if err == nil {
		err = unix.Ftruncate(m.fd, 0)
	}
	if err == nil {
		_, err = unix.Pwrite(m.fd, []byte(strconv.FormatUint(st.Ino, 10)), 0)
	}
	if err != nil {
		return m.because(err)
	}
	return nil
}

// enter makes this process a member and lets others look again.
func (m *members) enter() error {
	err := m.lock(unix.F_SETLK, unix.F_RDLCK, int64(os.Getpid()))
	if err == nil {
		err = m.lock(unix.F_SETLK, unix.F_UNLCK, 0)
	}
	if err != nil {
		return m.because(err)
	}
	return nil
}

// adopt makes the namespace that this process is in, made by somebody else,
// the one of all the user's containers; unless they have another.
func (m *members) adopt() error {
	ns, err := m.find()
	if err != nil {
		return err
	}
	own, ino, err := namespaceOf(os.Getpid())
	if err != nil {
		return m.because(err)
	}
	defer unix.Close(own)
	if ns >= 0 {
		var st unix.Stat_t
		err := unix.Fstat(ns, &st)
		_ = unix.Close(ns)
		if err != nil || st.Ino != ino {
			return cove.E("enter user namespace", "", cove.InUse, errors.New("containers of this user run in another one: call cove outside of this one"))
		}
	}
	if err := m.found(own); err != nil {
		return err
	}
	return m.enter()
}

// isMember tells whether fd is the member file of the namespace that this
// process is in, and keeps the membership.
func isMember(fd int) bool {
	var st unix.Stat_t
	if fd < 3 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return false
	}
	m := &members{fd: fd}
	own, ino, err := namespaceOf(os.Getpid())
	if err != nil {
		return false
	}
	_ = unix.Close(own)
	return m.inode() == ino && m.lock(unix.F_SETLK, unix.F_RDLCK, int64(os.Getpid())) == nil
}

func (m *members) inode() uint64 {
	var b [20]byte
	n, err := unix.Pread(m.fd, b[:], 0)
	if err != nil {
		return 0
	}
	ino, _ := strconv.ParseUint(string(b[:n]), 10, 64)
	return ino
}

func (m *members) lock(cmd int, kind int16, at int64) error {
	for {
		err := unix.FcntlFlock(uintptr(m.fd), cmd, &unix.Flock_t{Type: kind, Start: at, Len: 1})
		if err != unix.EINTR {
			return err
		}
	}
}

// holders lists the processes that hold a lock. One in a process namespace
// that cannot be seen from here is an error: it cannot be followed.
func (m *members) holders() ([]int, error) {
	var pids []int
	for at := int64(1); ; {
		pid, next, err := m.holder(at, 0)
		if err != nil || pid == 0 {
			return pids, err
		}
		pids = append(pids, pid)
		at = next
	}
}

// holder gives a process that holds a lock on one of the n bytes from at on (0:
// all), and the byte behind that; 0 when there is none.
func (m *members) holder(at, n int64) (pid int, next int64, err error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: n}
	if err := unix.FcntlFlock(uintptr(m.fd), unix.F_GETLK, &l); err != nil {
		return 0, 0, err
	}
	if l.Type == unix.F_UNLCK {
		return 0, 0, nil
	}
	if l.Pid <= 0 {
		return 0, 0, errors.New("containers of this user run outside of this process namespace")
	}
	return int(l.Pid), l.Start + 1, nil
}

// namespaceOf opens the user namespace of a process.
func namespaceOf(pid int) (fd int, ino uint64, err error) {
	fd, err = unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Ino, nil
}

// search looks for a process of cove's in a user namespace that this user has
// made.
func (m *members) search() (int, error) {
	own, ownIno, err := namespaceOf(os.Getpid())
	if err != nil {
		return -1, m.because(err)
	}
	defer unix.Close(own)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return -1, m.because(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Stat("/proc/"+e.Name(), &st) != nil || int(st.Uid) != os.Geteuid() {
			continue
		}
		if !isCove("/proc/" + e.Name()) {
			continue
		}
		fd, ino, err := namespaceOf(pid)
		if err != nil {
			continue
		}
		// Another command may be making one at this moment, and has not
		// mapped it yet.
		if !mapsToRoot("/proc/"+e.Name()+"/uid_map", os.Geteuid()) {
			_ = unix.Close(fd)
			continue
		}
		if owner, err := unix.IoctlGetUint32(fd, getOwner); err == nil && ino != ownIno && int(owner) == os.Geteuid() && isParent(own, fd) {
			return fd, m.found(fd)
		}
		_ = unix.Close(fd)
	}
	return -1, nil
}

// isParent tells whether the user namespace child was made in parent. What a
// container has made in its own is the user's as well, and named as its root
// likes.
func isParent(parent, child int) bool {
	fd, err := unix.IoctlRetInt(child, getParent)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var a, b unix.Stat_t
	return unix.Fstat(parent, &a) == nil && unix.Fstat(fd, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// isCove tells whether a process is one of cove's: by its name, or because it
// holds the file of a namespace open, as a conmon of cove's does.
func isCove(proc string) bool {
	comm, err := os.ReadFile(proc + "/comm")
	if err != nil {
		return false
	}
	if strings.HasPrefix(string(comm), "cove") {
		return true
	}
	if string(comm) != "conmon\n" {
		return false
	}
	files, _ := os.ReadDir(proc + "/fd")
	for _, f := range files {
		name, _ := os.Readlink(proc + "/fd/" + f.Name())
		if strings.TrimSuffix(filepath.Base(name), " (deleted)") == memberFile {
			return true
		}
	}
	return false
}

// mapsToRoot tells whether a map makes the user root, as seen from outside.
func mapsToRoot(file string, uid int) bool {
	text, err := os.ReadFile(file)
	f := strings.Fields(string(text))
	return err == nil && len(f) >= 3 && f[0] == "0" && f[1] == strconv.Itoa(uid)
}

// NS_GET_PARENT and NS_GET_OWNER_UID, ioctl_nsfs(2).
const (
	getParent = 0xb702
	getOwner  = 0xb704
)
