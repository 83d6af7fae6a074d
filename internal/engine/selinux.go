package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/spec"
	"github.com/cove-engine/cove/internal/state"
)

// seLinux tells whether this host confines with SELinux, which no longer
// changes while it runs. A kernel that no policy was given labels all
// processes "kernel".
var seLinux = sync.OnceValue(func() bool {
	if on, err := procfs.Read("/sys/fs/selinux/enforce", 8); err != nil || len(on) == 0 {
		return false
	}
	label, err := procfs.Read("/proc/self/attr/current", 4096)
	return err == nil && strings.TrimRight(string(label), "\x00\n") != "kernel"
})

// labelled tells whether the container's labels act.
func labelled(c *cove.Container) bool { return c.MountLabel != "" && seLinux() }

// mountLabel is the label of the container's file systems; "" for none.
func mountLabel(c *cove.Container) string {
	if !labelled(c) {
		return ""
	}
	return c.MountLabel
}

// labels chooses the container's labels, for good.
func (d *draft) labels() error {
	if !seLinux() || !d.e.conf.File.Containers.EnableLabeling {
		return nil
	}
	s := &d.c.Spec
	options, err := d.labelOptions()
	if err != nil {
		return err
	}
	if keys := d.e.conf.Refused(); len(keys) > 0 && !slices.Contains(options, "disable") {
		return cove.E("create container", s.Name, cove.Unsupported, fmt.Errorf("%s (%s) is not supported by cove yet", keys[0].Name, keys[0].File))
	}
	given := func(o string) bool { return o == "disable" || strings.HasPrefix(o, "level:") }
	d.ownLevel = !slices.ContainsFunc(options, given)
	machine := slices.Contains(d.e.conf.File.Engine.RuntimeSupportsKVM.Get(), filepath.Base(s.Runtime))
	d.c.ProcessLabel, d.c.MountLabel, err = chooseLabels(options, machine)
	if err != nil {
		return cove.E("create container", s.Name, cove.Invalid, err)
	}
	return nil
}

// labelOptions are those of the container: its own, and the labels of those
// whose processes or memory it shares. Where these are the host's, SELinux
// would only be in the way; so podman.
func (d *draft) labelOptions() ([]string, error) {
	s, conf := &d.c.Spec, &d.e.conf.File.Containers
	options := slices.Clone(s.SELinux)
	if s.Privileged {
		options = append(options, "disable")
	}
	for _, mode := range []string{cmp.Or(s.PID, conf.PidNS), cmp.Or(s.IPC, conf.IPCNS)} {
		if mode == "host" {
			options = append(options, "disable")
		}
		id, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			continue
		}
		other, err := d.e.find(id)
		if err != nil {
			return nil, err
		}
		same, err := selinux.DupSecOpt(other.ProcessLabel)
		if err != nil {
			return nil, cove.E("read label of container", other.Name, cove.Internal, err)
		}
		options = append(options, same...)
	}
	return options, nil
}

// chooseLabels makes labels of the policy's for containers and the options
// label=…, with a level of its own unless one is given. Who has which level is
// the store's to know, not the library's. For one in a virtual machine the policy
// has a type that may use the host's /dev/kvm.
func chooseLabels(options []string, machine bool) (process, mount string, err error) {
	process, mount, err = label.InitLabels(options)
	if err != nil {
		return "", "", err
	}
	if process != "" {
		selinux.ReleaseLabel(process)
	}
	if machine && process != "" {
		virtual, err := selinux.KVMContainerLabel()
		if err != nil {
			return "", "", err
		}
		selinux.ReleaseLabel(virtual)
		if process, err = typeOf(process, virtual); err != nil {
			return "", "", err
		}
	}
	if process == "" && mount == "" && len(options) > 0 && !slices.Contains(options, "disable") {
		return "", "", errors.New("the host's SELinux policy has no labels for containers (contexts/lxc_contexts)")
	}
	for _, l := range []string{process, mount} {
		if l == "" {
			continue
		}
		// The kernel tells what its policy has no such thing as; what could
		// end a quotation is none in any.
		if strings.ContainsAny(l, "\"\\\n ") || selinux.SecurityCheckContext(l) != nil {
			return "", "", fmt.Errorf("SELinux label %q is not valid in the host's policy", l)
		}
	}
	return process, mount, nil
}

// typeOf gives a label another one's type, unless that is "".
func typeOf(label, other string) (string, error) {
	if other == "" {
		return label, nil
	}
	to, err := selinux.NewContext(label)
	if err != nil {
		return "", err
	}
	from, err := selinux.NewContext(other)
	if err != nil {
		return "", err
	}
	to["type"] = from["type"]
	return to.Get(), nil
}

// ownLabels makes sure that no other container of the store has the level that
// was chosen, or chooses another one.
func (d *draft) ownLabels(tx state.Tx) error {
	if !d.ownLevel || d.c.ProcessLabel == "" {
		return nil
	}
	for range 1000 { // of half a million
		taken, err := levelTaken(tx, d.c.ProcessLabel)
		if err != nil || !taken {
			return err
		}
		if err := d.labels(); err != nil {
			return err
		}
	}
	return cove.E("", "", cove.Unavailable, errors.New("no SELinux level is free"))
}

// levelTaken tells whether a record has a label with the level of this one.
func levelTaken(tx state.Tx, processLabel string) (taken bool, err error) {
	level := []byte(":" + levelOf(processLabel) + `"`) // at the end of a string of JSON
	err = tx.List(state.Containers, func(_ string, raw []byte) error {
		taken = taken || bytes.Contains(raw, level)
		return nil
	})
	return taken, err
}

// levelOf is the level in user:role:type:level, which may have colons itself.
func levelOf(label string) string {
	fields := strings.SplitN(label, ":", 4)
	if len(fields) < 4 {
		return ""
	}
	return fields[3]
}

// shared is the label for what several containers may use: of no category.
func shared(label string) string {
	if level := levelOf(label); level != "" {
		return strings.TrimSuffix(label, level) + "s0"
	}
	return label
}

// volumeLabel is that of a new volume, "" where there is none.
func (e *Engine) volumeLabel() (string, error) {
	if !seLinux() || !e.conf.File.Containers.EnableLabeling {
		return "", nil
	}
	_, mount, err := chooseLabels(nil, false)
	return shared(mount), err
}

// ownInit is where a confined container's copy of our init is. Policies let
// containers start what has their own label, and nobody but them may run what
// they might write to.
func (l *launch) ownInit() string {
	if l.c.ProcessLabel == "" || !labelled(l.c) {
		return ""
	}
	return filepath.Join(l.e.dir(l.c.ID), "init")
}

// copyInit makes that copy, anew at each start.
func (l *launch) copyInit() error {
	name := l.ownInit()
	if !l.reaper || name == "" {
		return nil
	}
	program, err := l.e.monitor()
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return cove.E("copy", program, fileKind(err), err)
	}
	if err = copyProgram(program, name); err == nil {
		err = labelFile(name, l.c.MountLabel)
	}
	if err != nil {
		return cove.E("copy", program, fileKind(err), err)
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	// A process forked meanwhile would hold it open for writing (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(to, 0o755) // whatever the umask
	}
	return err
}

// labelJoined lets the container read the files of that whose network it
// shares, at whatever level it is.
func (e *Engine) labelJoined(c *cove.Container, other string) error {
	for _, name := range []string{"hosts", "resolv.conf"} {
		err := labelFile(filepath.Join(e.dir(other), name), shared(mountLabel(c)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// labelFile labels a file of the engine's, wherever labels are known.
func labelFile(name, label string) error {
	if label == "" {
		return nil
	}
	err := unix.Lsetxattr(name, "security.selinux", []byte(label), 0)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "label", Path: name, Err: err}
	}
	return nil
}

// relabel gives the source of a mount the container's label, or one that all
// containers may use.
func (l *launch) relabel(w spec.MountWork) error {
	if w.Relabel == "" || l.c.ProcessLabel == "" || !labelled(l.c) {
		return nil
	}
	label := l.c.MountLabel
	if w.Relabel == "z" {
		label = shared(label)
	}
	fd, err := unix.Open(w.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return cove.E("relabel", w.Source, fileKind(err), err)
	}
	defer unix.Close(fd)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) // without links on the way
	if err != nil {
		return cove.E("relabel", w.Source, fileKind(err), err)
	}
	if theHosts(name) {
		return cove.E("", "", cove.Invalid, fmt.Errorf("SELinux relabeling of %s is not allowed", w.Source))
	}
	if err := rootfs.Relabel(fd, label); err != nil {
		return cove.E("relabel", w.Source, fileKind(err), err)
	}
	return nil
}

// theHosts tells whether a tree is one that the host cannot do without.
func theHosts(name string) bool {
	switch name = filepath.Clean(name); name {
	case "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media", "/opt",
		"/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin",
		"/var", "/var/lib", "/var/log":
		return true
	}
	home := os.Getenv("HOME")
	return home != "" && name == filepath.Clean(home)
}
