package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/plan"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/spec"
)

// describe makes the OCI spec.
func (l *launch) describe(ctx context.Context) (err error) {
	if l.layout, err = l.e.cgroups(); err != nil {
		return err
	}
	l.c.CgroupBase = l.layout.Base
	host, err := l.e.host(l.c, l.layout)
	if err != nil {
		return err
	}
	if l.joined, err = l.e.joined(l.c, &host); err != nil {
		return err
	}
	warning := l.findHostMounts()
	for _, m := range l.hostMounts {
		host.Files.Copies = append(host.Files.Copies, m.bind)
	}
	if l.c.Configured == nil {
		if l.c.Configured, err = l.e.configuredNow(); err != nil {
			return err
		}
	}
	// What was asked and configured stays in the record as it was.
	c, configured := *l.c, *l.c.Configured
	c.Configured = &configured
	configured.AppArmor = cmp.Or(configured.AppArmor, defaultProfile)
	if c.Spec.Init && c.Spec.InitPath == "" && configured.InitPath == "" {
		if configured.InitPath, err = l.e.monitor(); err != nil {
			return err
		}
		l.reaper = true
		configured.InitPath = cmp.Or(l.ownInit(), configured.InitPath)
	}
	c.Spec.Ulimits = expandUlimits(c.Spec.Ulimits, host.Rlimits)
	l.spec, l.extra, l.warnings, err = spec.Make(&c, host)
	if err != nil {
		l.badID = errors.Is(err, spec.ErrIDRange)
		return err
	}
	if warning != "" {
		l.warnings = append(l.warnings, warning)
	}
	if l.foreign, err = l.e.foreign(l.c); err != nil {
		return err
	}
	filter := l.compileFilter
	if l.foreign != nil {
		filter = func() error { return l.adapt(ctx) }
	}
	for _, step := range []func() error{l.checkSources, l.confine, filter, l.tagLog} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// compileFilter reads the seccomp profile for the capabilities that the
// command can have at most.
func (l *launch) compileFilter() (err error) {
	l.filter, err = l.e.filter(l.extra.Seccomp, l.bounding())
	if err == nil {
		err = l.refuseNotify()
	}
	return err
}

func (l *launch) refuseNotify() error {
	if l.filter.Notify {
		return cove.E("", "", cove.Unsupported, errors.New("seccomp profiles with SCMP_ACT_NOTIFY are not supported by cove yet"))
	}
	return nil
}

// bounding are the capabilities that the command can have at most.
func (l *launch) bounding() []string {
	if caps := l.spec.Process.Capabilities; caps != nil {
		return caps.Bounding
	}
	return nil
}

// writePlan compiles the spec and hands it over.
func (l *launch) writePlan(joins []native.Join) error {
	o := native.Options{
		User: l.extra.User, Groups: l.extra.Groups, CreateWorkDir: l.extra.CreateWorkDir, SetHome: true, Keyring: "_ses." + l.c.ID,
		Seccomp: l.filter.BPF, SeccompFlags: l.filter.Flags, UserNamespace: l.e.conf.Rootless,
		CgroupV1: l.layout.Subsystems(l.cgroups.Dirs), LoopbackUp: len(l.c.Attachments) == 0 && ownsNetwork(l.spec),
	}
	if l.attach != nil {
		size := windowSize(l.attach.Streams.Terminal)
		o.Rows, o.Cols = size.Rows, size.Cols
	}
	o.Overlay, o.SELinux = l.e.overlay(l.c), labelled(l.c)
	if l.foreign != nil {
		return l.writeForeign(&o, joins)
	}
	o.JoinShm = strings.HasPrefix(l.c.Spec.IPC, "container:")
	compiled, err := native.Compile(l.spec, o)
	if err != nil {
		return err
	}
	compiled.Plan.Process.AppArmorNow = compiled.Plan.Process.AppArmor == defaultProfile
	compiled.Plan.Process.NoKeyring = !l.e.conf.File.Containers.EnableKeyring
	for _, w := range l.extra.Mounts {
		if w.Chown {
			compiled.Plan.Chown = append(compiled.Plan.Chown, w.Source)
		}
	}
	if l.health, err = health(l.c, func(args []string) (any, error) {
		p := compiled.Plan.Process
		p.Args, p.Terminal, p.MakeCwd, p.Reaper, p.OOMScoreAdj = args, false, false, false, nil
		return &plan.Plan{Version: plan.Version, Process: p}, nil
	}); err != nil {
		return err
	}
	compiled.Plan.Process.KeepFDs = keptBehind(l.keep)
	compiled.Plan.Process.Env = append(compiled.Plan.Process.Env, l.listen...)
	compiled.Plan.Process.Reaper, compiled.Plan.Hooks, compiled.Plan.Accounts = l.reaper, l.hooks, l.accounts()
	if err := l.handPlan(&compiled.Plan); err != nil {
		return err
	}
	if o.JoinShm {
		fd, err := l.e.sharedMemory(l.c.Spec.IPC)
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "shm", FD: fd})
	}
	if err := l.handProc(joins); err != nil {
		return err
	}
	return l.handNamespaces(joins)
}

// accounts are what the container's passwd and group files may lack.
func (l *launch) accounts() *plan.Accounts {
	if len(l.extra.Passwd)+len(l.extra.Group) == 0 {
		return nil
	}
	a := &plan.Accounts{ReadOnly: l.spec.Root.Readonly, Label: mountLabel(l.c)}
	for _, x := range l.extra.Passwd {
		a.Passwd = append(a.Passwd, plan.Account(x))
	}
	for _, x := range l.extra.Group {
		a.Group = append(a.Group, plan.Account(x))
	}
	return a
}

// handPlan writes the plan where the monitor finds it again for restarts.
func (l *launch) handPlan(p any) error {
	data, err := json.Marshal(p)
	if err != nil {
		return cove.E("", "", cove.Internal, err)
	}
	name := filepath.Join(l.e.dir(l.c.ID), "plan")
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return cove.E("write", name, fileKind(err), err)
	}
	l.files = append(l.files, monitor.File{Name: "plan", FD: fd})
	n, err := unix.Write(fd, data)
	if err == nil && n != len(data) {
		err = unix.ENOSPC
	}
	if err != nil {
		return cove.E("write", name, cove.Unavailable, err)
	}
	return nil
}

// handProc hands over where the /proc of a process namespace to be joined is:
// with one of its processes, whose path is the namespace's.
func (l *launch) handProc(joins []native.Join) error {
	for _, j := range joins {
		if j.Flag != unix.CLONE_NEWPID {
			continue
		}
		dir, own := strings.CutSuffix(j.Path, "/ns/pid")
		if !own {
			return cove.E("join namespace", j.Path, cove.Unsupported, errors.New("it takes the path of a process's own, /proc/PID/ns/pid"))
		}
		fd, err := l.openNamespace(dir + "/ns/mnt")
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "proc", FD: fd})
	}
	return nil
}

// handNamespaces hands over the namespaces to be joined, after everything else
// that is opened by the number of another container's process.
func (l *launch) handNamespaces(joins []native.Join) error {
	for _, j := range joins {
		fd, err := l.openNamespace(j.Path)
		if err != nil {
			return err
		}
		l.files = append(l.files, monitor.File{Name: "ns:" + strconv.Itoa(j.Flag), FD: fd})
	}
	// After the opening: now it was no other process of that number.
	if err := l.joinedLive(); err != nil {
		return err
	}
	if l.netns >= 0 {
		fd, err := unix.FcntlInt(uintptr(l.netns), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return cove.E("", "", cove.Internal, err)
		}
		l.files = append(l.files, monitor.File{Name: "ns:" + strconv.Itoa(unix.CLONE_NEWNET), FD: fd})
	}
	return nil
}

// openNamespace is the function of that name, and tells of a container that has
// ended meanwhile.
func (l *launch) openNamespace(path string) (int, error) {
	fd, err := openNamespace(path)
	if err != nil {
		err = cmp.Or(l.joinedLive(), err)
	}
	return fd, err
}

// joinedLive tells of a container whose namespaces are shared and whose process
// has ended: its number may be another's by now.
func (l *launch) joinedLive() error {
	for _, o := range l.joined {
		if !procfs.Lives(o.Run.PID, o.Run.PIDStart) {
			return cove.E("", "", cove.WrongStatus, fmt.Errorf("cannot join the namespaces of container %s: it has ended", o.Name))
		}
	}
	return nil
}

func openNamespace(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, cove.E("join namespace", path, fileKind(err), err)
	}
	return fd, nil
}

func ownsNetwork(s *specs.Spec) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			return ns.Path == ""
		}
	}
	return false
}

// overlay describes the container's root: the image's layers with its own
// directory on top.
func (e *Engine) overlay(c *cove.Container) *plan.Overlay {
	dir := e.dir(c.ID)
	o := &plan.Overlay{Base: e.conf.GraphRoot, Upper: filepath.Join(dir, "diff"), Work: filepath.Join(dir, "work")}
	// An image's layer may carry overlay's own attributes: no directory is to
	// show the files of another, no file those of a third (metacopy needs
	// redirects). For an ordinary user "userxattr" says the same.
	o.Options = append(o.Options, "redirect_dir=nofollow")
	switch {
	case c.Spec.Rootfs == "":
		o.Lower = c.Image.Layers
	case c.Spec.RootfsOverlay:
		o.Lower = []string{c.Spec.Rootfs}
	default:
		return nil
	}
	if len(o.Lower) == 0 { // an image without layers
		o.Lower = []string{e.conf.Merged()}
	}
	if c.Spec.Remove && !e.conf.Lasting && (c.Spec.Restart.Name == "" || c.Spec.Restart.Name == "no") {
		// Nobody will miss what a power loss takes; without it the last
		// unmount syncs the whole upper file system. Such a layer cannot be
		// mounted again, so not for what may be started again.
		o.Options = append(o.Options, "volatile")
	}
	if e.conf.Rootless {
		o.Options = append(o.Options, "userxattr")
	}
	o.Context = mountLabel(c)
	for _, opt := range e.conf.MountOptions() {
		o.Flags |= confining[opt]
	}
	return o
}

// confining are storage.conf's mount options that a container's root gets, tuning
// those of mount(8) and overlay that confine nobody, which it does without.
var (
	confining = map[string]uintptr{"nodev": unix.MS_NODEV, "nosuid": unix.MS_NOSUID, "noexec": unix.MS_NOEXEC}
	tuning    = strings.Fields(`defaults rw dev suid exec async sync dirsync mand nomand atime noatime diratime nodiratime
		relatime norelatime strictatime nostrictatime iversion noiversion lazytime nolazytime
		metacopy redirect_dir index xino uuid nfs_export verity volatile fsync userxattr`)
)

// strangeMountOption is the first of storage.conf's that is neither: it may be one of
// the former misspelt. Those of a mount program, which is told of, are its own.
func (e *Engine) strangeMountOption() string {
	if e.conf.StorageOption("mount_program") != "" {
		return ""
	}
	for _, opt := range e.conf.MountOptions() {
		name, _, _ := strings.Cut(opt, "=")
		if opt != "" && confining[opt] == 0 && !slices.Contains(tuning, name) {
			return opt
		}
	}
	return ""
}
