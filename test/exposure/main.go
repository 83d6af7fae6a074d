// Command exposure tells what a container can see and do, one thing a line, so
// that two containers can be compared: every line is a right or a sight.
//
//	exposure inside         as a command in the container: capabilities,
//	                        devices, mounts, what can be written or seen of
//	                        /proc and /sys; then it waits to be killed
//	exposure outside PID    beside it on the host, about the process of the
//	                        above: namespaces that are the host's, and every
//	                        system call that its filter lets through
//	exposure table FILE…    what was so found in several containers, side by side
package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "inside":
		if err = inside(); err == nil {
			fmt.Println("end")
			time.Sleep(time.Hour)
		}
	case len(os.Args) == 3 && os.Args[1] == "outside":
		err = outside(os.Args[2])
	case len(os.Args) > 2 && os.Args[1] == "table":
		err = table(os.Args[2:])
	default:
		err = fmt.Errorf("usage: exposure inside | outside PID | table FILE…")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "exposure:", err)
		os.Exit(1)
	}
}

func inside() error {
	if err := capabilities(); err != nil {
		return err
	}
	if err := mounts(); err != nil {
		return err
	}
	devices()
	writable("/proc")
	writable("/sys")
	visible()
	return nil
}

// capabilities tells the sets, and that nothing forbids to gain more.
func capabilities() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":\t")
		switch key {
		case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
			set, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return err
			}
			for n := range 64 {
				if set&(1<<n) != 0 {
					fmt.Printf("%s %d\n", key, n)
				}
			}
		case "Seccomp":
			if value == "0" {
				fmt.Println("no seccomp filter")
			}
		}
	}
	return nil
}

// mounts tells where files can be written, and where what lies there may be
// executed, a device, or set-user-ID.
func mounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	at := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if !strings.HasPrefix(f[4], "/exposure") {
			at[f[4]] = strings.Split(f[5], ",") // the uppermost is the last
		}
	}
	for _, point := range slices.Sorted(maps.Keys(at)) {
		if maskOf(point) {
			continue
		}
		if slices.Contains(at[point], "rw") {
			fmt.Println("mount rw", point)
		}
		for _, o := range []string{"nosuid", "nodev", "noexec"} {
			// Of no meaning where nothing can be put.
			if slices.Contains(at[point], "rw") && !slices.Contains(at[point], o) {
				fmt.Println("mount", strings.TrimPrefix(o, "no"), point)
			}
		}
	}
	return nil
}

func devices() {
	_ = filepath.WalkDir("/dev", func(p string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(p, &st) != nil {
			return nil
		}
		kind := map[uint32]string{unix.S_IFCHR: "char", unix.S_IFBLK: "block"}[st.Mode&unix.S_IFMT]
		if kind != "" && unix.Access(p, unix.R_OK) == nil {
			fmt.Printf("device %s %d:%d %s\n", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev), p)
		}
		return nil
	})
	for _, dev := range []struct {
		kind         uint32
		name         string
		major, minor uint32
	}{
		{unix.S_IFBLK, "block", 8, 0}, {unix.S_IFBLK, "block", 254, 0}, {unix.S_IFBLK, "block", 7, 0}, {unix.S_IFCHR, "char", 1, 1},
		{unix.S_IFCHR, "char", 1, 11}, {unix.S_IFCHR, "char", 10, 229}, {unix.S_IFCHR, "char", 10, 200}, {unix.S_IFCHR, "char", 10, 237},
	} {
		// One that is made, to see whether the cgroup lets it be opened:
		// EPERM is that; ENXIO, that nobody is behind it.
		name := fmt.Sprintf("/probe-%s-%d-%d", dev.name, dev.major, dev.minor)
		if unix.Mknod(name, dev.kind|0o600, int(unix.Mkdev(dev.major, dev.minor))) != nil {
			continue
		}
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		if err != unix.EPERM {
			fmt.Printf("opens %s %d:%d\n", dev.name, dev.major, dev.minor)
		}
		_ = os.Remove(name)
	}
}

// writable tells the files below top that could be opened for writing.
// Processes come and go and are left out; so are the container's own cgroups
// but for their being writable at all.
func writable(top string) {
	_ = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		rest := strings.TrimPrefix(p, "/proc/")
		if _, err := strconv.Atoi(rest); err == nil || p == "/proc/self" || p == "/proc/thread-self" {
			return fs.SkipDir
		}
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		if p == "/sys/fs/cgroup" && unix.Access(p, unix.W_OK) != nil {
			// One of its mounts may be.
			return nil
		}
		if !d.IsDir() && !maskOf(p) && unix.Access(p, unix.W_OK) == nil {
			fmt.Println("write", p)
		}
		return nil
	})
}

// visible tells what of the top of /proc, and of places in /sys that are known
// to give the host away, is not masked.
func visible() {
	entries, _ := os.ReadDir("/proc")
	names := []string{"/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/selinux", "/sys/kernel/debug", "/sys/dev/block"}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			names = append(names, "/proc/"+e.Name())
		}
	}
	for _, n := range names {
		if unix.Access(n, unix.F_OK) == nil && !maskOf(n) {
			fmt.Println("see", n)
		}
	}
}

// maskOf reports whether a path is covered: by the null device, or by an empty
// directory that is read-only.
func maskOf(p string) bool {
	var st unix.Stat_t
	if unix.Lstat(p, &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return st.Rdev == unix.Mkdev(1, 3) && !strings.HasPrefix(p, "/dev")
	case unix.S_IFDIR:
		var fs unix.Statfs_t
		entries, err := os.ReadDir(p)
		return err == nil && len(entries) == 0 && unix.Statfs(p, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && fs.Flags&unix.ST_RDONLY != 0
	}
	return false
}

// table prints for each line in which of the files it is.
func table(files []string) error {
	rows := map[string][]bool{}
	width := 0
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if rows[line] == nil {
				rows[line] = make([]bool, len(files))
			}
			rows[line][i] = true
			width = max(width, len(line))
		}
	}
	fmt.Printf("%-*s", width, "")
	for _, f := range files {
		fmt.Printf("  %s", filepath.Base(f))
	}
	fmt.Println()
	for _, line := range slices.Sorted(maps.Keys(rows)) {
		fmt.Printf("%-*s", width, line)
		gap := ""
		for i, f := range files {
			mark := "-"
			if rows[line][i] {
				mark = "x"
			}
			fmt.Print(gap + "  " + mark)
			gap = strings.Repeat(" ", len(filepath.Base(f))-len(mark))
		}
		fmt.Println()
	}
	return nil
}
