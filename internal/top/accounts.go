package top

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/procfs"
)

// accounts are names by ID; what has none is shown by its number.
type accounts struct{ users, groups map[uint32]string }

func (a accounts) user(id uint32) string  { return nameOr(a.users, id) }
func (a accounts) group(id uint32) string { return nameOr(a.groups, id) }

func nameOr(names map[uint32]string, id uint32) string {
	if name := names[id]; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// accountsMax bounds passwd(5) and group(5) files, in bytes.
const accountsMax = 1 << 20

func hostAccounts(path string) map[uint32]string {
	data, err := procfs.Read(path, accountsMax)
	if err != nil {
		return nil
	}
	return parseAccounts(data)
}

// innerAccounts reads a file of the container's, never one outside of its
// root, and only a regular one. A file system of the container's that does
// not answer is given up after a second.
func innerAccounts(p procfs.Directory, name string) map[uint32]string {
	root, err := unix.Openat(p.FD, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	answer := make(chan map[uint32]string, 1)
	go func() {
		defer unix.Close(root)
		data, err := readInRoot(root, name, accountsMax)
		if err != nil {
			data = nil
		}
		answer <- parseAccounts(data)
	}()
	select {
	case names := <-answer:
		return names
	case <-time.After(time.Second):
		return nil
	}
}

// readInRoot reads a regular file below root, which is hostile: names are
// resolved inside it, and nothing is opened before it is known to be a file.
func readInRoot(root int, name string, max int) ([]byte, error) {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	return procfs.Read("/proc/self/fd/"+strconv.Itoa(fd), max)
}

// parseAccounts reads names by ID; the first of several names counts.
func parseAccounts(data []byte) map[uint32]string {
	names := map[uint32]string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) < 3 || fields[0] == "" {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, has := names[uint32(id)]; err == nil && !has {
			names[uint32(id)] = fields[0]
		}
	}
	return names
}
