package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/journal"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/spec"
	"github.com/cove-engine/cove/internal/state"
)

// Create records a container that can be started. Nothing of it runs.
func (e *Engine) Create(ctx context.Context, spec cove.ContainerSpec, o CreateOptions) (id string, warnings []string, err error) {
	d, err := e.draft(ctx, spec, o)
	if err != nil {
		return "", nil, err
	}
	defer d.release()
	// What a start would refuse is refused now; a container whose namespaces
	// are to be shared may run by then, and podman 5 misses a command no earlier.
	err = (&launch{e: e, c: d.c}).describe(ctx)
	if err != nil && !cove.Is(err, cove.WrongStatus) && !cove.Is(err, cove.NoCommand) {
		return "", nil, err
	}
	if err := d.choosePorts(); err != nil {
		return "", nil, err
	}
	l, err := d.create(ctx)
	if errors.Is(err, errSoonRemoved) {
		return d.c.ID, d.warnings, nil // as if it had been a moment later
	}
	if err != nil {
		return "", nil, err
	}
	defer l.Unlock()
	return d.c.ID, d.warnings, nil
}

// errSoonRemoved tells that somebody has removed a container between its record
// and its maker's lock.
var errSoonRemoved = errors.New("it was removed while it was being created: no such container")

// create makes the draft a container of which nothing runs, and gives its
// lock.
func (d *draft) create(ctx context.Context) (lock.Held, error) {
	if err := d.record(ctx, cove.DesireStop); err != nil {
		return nil, err
	}
	if err := writeCIDFile(d.c); err != nil {
		return nil, d.unrecord(err)
	}
	l, err := d.lock(ctx)
	if err != nil {
		return nil, d.unrecord(err)
	}
	if err := d.e.makeDir(d.c); err != nil {
		return nil, errors.Join(d.unrecord(err), l.Unlock())
	}
	if d.e.conf.File.Containers.PrepareVolumeOnCreate {
		if err := d.e.fillVolumes(ctx, d.c); err != nil {
			return nil, errors.Join(err, l.Unlock())
		}
	}
	d.e.emitCreate(d.c)
	return l, nil
}

// draft is a container that is about to be recorded.
type draft struct {
	e        *Engine
	c        *cove.Container
	volumes  []cove.Volume  // those of its mounts, as they are or would be
	made     []string       // set by record: those that it has recorded
	joins    []cove.Network // the networks' records; set by record of what is to run
	ownLevel bool           // the SELinux level was chosen here
	noLease  bool           // set by record: the address was not to be had
	warnings []string
	releases []func()
}

func (d *draft) release() {
	for _, f := range d.releases {
		f()
	}
	d.releases = nil
}

// draft resolves what was asked into a record, up to the point where it is
// written. It holds the image so that nobody removes it in between.
func (e *Engine) draft(ctx context.Context, spec cove.ContainerSpec, o CreateOptions) (*draft, error) {
	d := &draft{e: e}
	if spec.Name != "" {
		if err := validName("container", spec.Name); err != nil {
			return nil, err
		}
		if o.Replace {
			warn := func(text string) { d.warnings = append(d.warnings, text) }
			err := e.Remove(ctx, spec.Name, RemoveOptions{Force: true, Warn: warn})
			if err != nil && !cove.Is(err, cove.NotFound) {
				return nil, err
			}
		}
	}
	c := &cove.Container{
		Schema: cove.Schema, ID: cmp.Or(o.ID, newID()), Name: spec.Name, Created: time.Now(), Spec: spec,
		Desired: cove.DesireStop, CommandLine: o.CommandLine, Ports: spec.Ports, Attachments: spec.Networks,
	}
	d.c = c
	if err := e.chooseMonitor(ctx, c); err != nil {
		return nil, err
	}
	if spec.Rootfs != "" {
		fd, err := unix.Open(spec.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, cove.E("find root", spec.Rootfs, fileKind(err), err)
		}
		_ = unix.Close(fd)
	} else {
		hold, err := e.images.Hold(ctx)
		if err != nil {
			return nil, err
		}
		d.releases = append(d.releases, func() { _ = hold() })
		if c.Image, err = e.resolveImage(ctx, &c.Spec, o); err != nil {
			d.release()
			return nil, err
		}
	}
	for _, step := range []func() error{d.runtime, d.configured, d.supported, d.forSystemd, d.cgroupsManaged, d.mounts, d.ports, d.networks, d.dependencies, d.labels} {
		if err := step(); err != nil {
			d.release()
			return nil, err
		}
	}
	return d, nil
}

// runtime settles which OCI runtime the container has, for good.
func (d *draft) runtime() error {
	if d.c.Spec.Runtime == "" {
		d.c.Spec.Runtime = d.e.conf.OCIRuntime(d.c.Image.OS, d.c.Image.Architecture)
	}
	_, err := d.e.foreign(d.c)
	return err
}

// forSystemd settles whether it is made for a systemd, for good.
func (d *draft) forSystemd() error { return spec.Systemd(d.c) }

// resolveImage finds the image, and pulls it when the policy says so.
func (e *Engine) resolveImage(ctx context.Context, spec *cove.ContainerSpec, o CreateOptions) (cove.ImageConfig, error) {
	policy := spec.Pull
	if policy == "" {
		policy = e.conf.File.Engine.PullPolicy
	}
	if policy == "" {
		policy = "missing"
	}
	if policy == "missing" || policy == "never" {
		img, err := e.images.Resolve(ctx, spec.Image, spec.Platform)
		if err == nil || !cove.Is(err, cove.NotFound) || policy == "never" {
			return img, err
		}
	}
	if ok, err := e.builtin(ctx, spec.Image); err != nil {
		return cove.ImageConfig{}, err
	} else if ok {
		return e.images.Resolve(ctx, spec.Image, spec.Platform)
	}
	pull := image.PullOptions{Policy: policy, Platform: spec.Platform}
	pull.Transfer = image.Transfer{TLSVerify: o.TLSVerify, AuthFile: o.AuthFile, Retries: o.Retries, RetryDelay: o.RetryDelay, Report: o.Report}
	if !o.Quiet {
		pull.Progress = o.Progress
	}
	ids, err := e.images.Pull(ctx, spec.Image, pull)
	if err != nil {
		return cove.ImageConfig{}, err
	}
	if img, err := e.images.Resolve(ctx, spec.Image, spec.Platform); err == nil {
		return img, nil
	}
	// A transport's name (docker-archive:…) is no name of an image.
	return e.images.Resolve(ctx, ids[0], spec.Platform)
}

// supported refuses by name what cannot be carried out yet.
func (d *draft) supported() error {
	s := &d.c.Spec
	switch s.LogDriver {
	case "", "k8s-file", "json-file", "none":
	case "journald":
		if !journal.Present() {
			return cove.E("create container", s.Name, cove.Unavailable, errors.New("there is no journal on this host: want log driver k8s-file, json-file or none"))
		}
	case "passthrough", "passthrough-tty":
		if err := refuseTerminal(s.LogDriver); err != nil {
			return err
		}
	default:
		return cove.E("create container", s.Name, cove.Invalid, errors.New("invalid log driver "+s.LogDriver+": want k8s-file, json-file, journald, passthrough, passthrough-tty or none"))
	}
	for _, limit := range []string{"size", "inodes"} {
		if value := d.e.conf.StorageOption(limit); value != "" && value != "0" {
			return cove.E("create container", s.Name, cove.Unsupported, fmt.Errorf("storage option %s=%s: cove sets no quota on containers' layers yet", limit, value))
		}
	}
	if opt := d.e.strangeMountOption(); opt != "" {
		return cove.E("create container", s.Name, cove.Unsupported, fmt.Errorf("storage option mountopt: %q is none that cove knows", opt))
	}
	if s.SDNotify == "healthy" && healthCheck(d.c) == nil {
		return cove.E("", "", cove.Invalid, errors.New("invalid argument: sdnotify policy \"healthy\" requires a healthcheck to be set"))
	}
	if s.StartupHealth != nil && healthCheck(d.c) == nil {
		return cove.E("", "", cove.Invalid, errors.New("cannot set a startup healthcheck when there is no regular healthcheck: invalid argument"))
	}
	if s.StartupHealth != nil && len(s.StartupHealth.Test) == 0 { // of an archive, whose record nobody has typed
		return cove.E("", "", cove.Invalid, errors.New("the startup health check has no command"))
	}
	if h := s.Health; h != nil && h.OnFailure != "" && h.OnFailure != "none" && healthCheck(d.c) == nil {
		return cove.E("", "", cove.Invalid, fmt.Errorf("cannot set on-failure action to %s without a health check", h.OnFailure))
	}
	if err := validHealth(healthCheck(d.c)); err != nil {
		return cove.E("create container", s.Name, cove.Invalid, err)
	}
	// For an ordinary user every ID of every file of the image would have to be
	// another one, and the kernel lets only root map those of the disk.
	if mode, _, _ := strings.Cut(s.UserNS, ":"); mode == "keep-id" || mode == "nomap" {
		if !d.e.conf.Rootless {
			return cove.E("", "", cove.Invalid, fmt.Errorf("%s is only supported in rootless mode", mode))
		}
		return cove.E("", "", cove.Unsupported, fmt.Errorf("--userns=%s is not supported by cove yet", s.UserNS))
	}
	return nil
}

// mounts settles every mount: the user's, those of --volumes-from and the
// image's volumes, each volume with a name.
func (d *draft) mounts() error {
	c := d.c
	taken := map[string]bool{}
	add := func(m cove.Mount) {
		m.Destination = path.Clean(m.Destination)
		if taken[m.Destination] {
			return
		}
		taken[m.Destination] = true
		if m.Type == "volume" {
			if m.Source == "" {
				m.Source, m.Anonymous = newID(), true
			}
			d.volumes = append(d.volumes, cove.Volume{Schema: cove.Schema, Name: m.Source, Driver: "local", Created: c.Created, Anonymous: m.Anonymous, NeedsCopyUp: true})
		}
		c.Mounts = append(c.Mounts, m)
	}
	for i, m := range slices.Concat(c.Spec.Mounts, c.Spec.DefaultMounts) {
		if taken[path.Clean(m.Destination)] {
			if i >= len(c.Spec.Mounts) {
				continue
			}
			return cove.E("create container", c.Name, cove.Invalid, fmt.Errorf("%s: duplicate mount destination", m.Destination))
		}
		if m.Type == "bind" && !filepath.IsAbs(m.Source) {
			return cove.E("create container", c.Name, cove.Invalid, fmt.Errorf("bind source %q is not absolute", m.Source))
		}
		if m.Type == "volume" && m.Source != "" {
			if err := validName("volume", m.Source); err != nil {
				return err
			}
			// Whoever named it keeps it.
			m.Anonymous = false
		}
		add(m)
	}
	for _, from := range c.Spec.VolumesFrom {
		name, mode, _ := strings.Cut(from, ":")
		other, err := d.e.find(name)
		if err != nil {
			return err
		}
		for _, m := range other.Mounts {
			if m.Type != "volume" && m.Type != "bind" {
				continue
			}
			for opt := range strings.SplitSeq(mode, ",") {
				if opt == "ro" || opt == "rw" {
					m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" || o == "rw" })
				}
				if opt != "" {
					m.Options = append(slices.Clone(m.Options), opt)
				}
			}
			m.Anonymous = false // it goes with the other one
			add(m)
		}
	}
	for _, dest := range c.Image.Volumes {
		if dest == "" {
			continue // of no place
		}
		if !filepath.IsAbs(dest) {
			dest = "/" + dest // as it says it in the image's root
		}
		switch cmp.Or(c.Spec.ImageVolumes, d.e.conf.File.Engine.ImageVolumeMode) {
		case "tmpfs":
			add(cove.Mount{Type: "tmpfs", Destination: dest, Options: []string{"rprivate", "rw", "nodev", "exec"}})
		case "ignore":
		default:
			add(cove.Mount{Type: "volume", Destination: dest})
		}
	}
	return nil
}

// dependencies finds the containers whose namespaces are shared and those that
// are required. Modes get their IDs, so that a rename does not matter.
func (d *draft) dependencies() error {
	s := &d.c.Spec
	for _, mode := range []*string{&s.PID, &s.IPC, &s.UTS, &s.Network, &s.CgroupNS, &s.UserNS} {
		name, ok := strings.CutPrefix(*mode, "container:")
		if !ok {
			continue
		}
		other, err := d.e.find(name)
		if err != nil {
			return err
		}
		*mode = "container:" + other.ID
		if !slices.Contains(d.c.DependsOn, other.ID) {
			d.c.DependsOn = append(d.c.DependsOn, other.ID)
		}
	}
	for _, name := range s.Requires {
		other, err := d.e.find(name)
		if err != nil {
			return cove.E("", "", cove.KindOf(err), fmt.Errorf("%q is not a valid container, cannot be used as a dependency: %w", name, err))
		}
		if !slices.Contains(d.c.DependsOn, other.ID) {
			d.c.DependsOn = append(d.c.DependsOn, other.ID)
		}
	}
	return nil
}

// record writes the container's record, with its name, leases and volumes, in
// one transaction.
func (d *draft) record(ctx context.Context, desired cove.Desired) error {
	given := d.c.Name
	write := func() error { return d.write(desired) }
	err := d.e.afterGoing(ctx, write)
	if given != "" && cove.Is(err, cove.Exists) && d.e.leaves(ctx, given) {
		err = d.e.afterGoing(ctx, write)
	}
	if err != nil {
		return cove.E("create container", given, cove.KindOf(err), err)
	}
	for i := range d.volumes {
		if err := d.e.makeVolumeDir(&d.volumes[i]); err != nil {
			return d.unrecord(err)
		}
	}
	return nil
}

// leaves tells whether a container is gone, or goes now: perhaps it was to with
// --rm, and whoever was to do it was killed.
func (e *Engine) leaves(ctx context.Context, name string) bool {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		h, err := e.holdAsIs(ctx, name)
		if err != nil {
			return cove.Is(err, cove.NotFound)
		}
		h.release()
		if !h.leaving() || time.Since(began) > outputPatience {
			return false
		}
	}
}

// leaving tells whether a container that goes with its end has ended and its
// monitor is about to see to that.
func (c *Container) leaving() bool {
	if c.Run.PID != 0 {
		return c.Spec.Remove && !procfs.Lives(c.Run.PID, c.Run.PIDStart)
	}
	return c.Spec.Remove && c.Status == cove.Exited && alive(c.Dir)
}

// nameTaken is the error of a name that a container has and keeps.
func (d *draft) nameTaken(ctx context.Context) error {
	if d.c.Name == "" || d.e.leaves(ctx, d.c.Name) {
		return nil
	}
	err := d.e.store.View(func(tx state.Tx) error { return tx.Claim(state.Containers, d.c.Name, d.c.ID) })
	if cove.Is(err, cove.Exists) {
		return cove.E("create container", d.c.Name, cove.Exists, err)
	}
	return nil // it is free, or only the beginning of an ID
}

// write is record's transaction.
func (d *draft) write(desired cove.Desired) error {
	c := d.c
	c.Desired = desired
	if desired == cove.DesireRun {
		c.Run.Generation, c.Run.BootID = 1, procfs.BootID()
		var err error
		if c.StartedBy, err = thisProcess(); err != nil {
			return err
		}
	}
	given := c.Name
	attachments := slices.Clone(c.Attachments)
	return d.e.update(func(tx state.Tx) error {
		// The function may run more than once.
		c.Name, c.Attachments, d.made = given, slices.Clone(attachments), nil
		if err := tx.Get(state.Containers, c.ID, new(struct{})); err == nil {
			return cove.E("", "", cove.Exists, fmt.Errorf("ID %s is already in use by a container", c.ID))
		}
		if err := d.e.noteMade(tx, c.ID); err != nil { // a restored one has the ID that it had
			return err
		}
		if err := d.claimName(tx); err != nil {
			return err
		}
		if err := d.ownLabels(tx); err != nil {
			return err
		}
		for _, id := range c.DependsOn {
			other := new(cove.Container)
			if err := tx.Get(state.Containers, id, other); err != nil {
				return err
			}
			if other.Intent == cove.BeingRemoved {
				return cove.E("", "", cove.WrongStatus, fmt.Errorf("container %s is being removed: container state improper", id))
			}
			if err := setDependent(tx, id, c.ID, true); err != nil {
				return err
			}
		}
		for i := range d.volumes {
			made, err := ensureVolume(tx, &d.volumes[i])
			if err != nil {
				return err
			}
			if made {
				d.made = append(d.made, d.volumes[i].Name)
			}
		}
		if desired == cove.DesireRun || hasStaticIP(c) {
			if err := d.e.lease(tx, c, nil); err != nil {
				d.noLease = !cove.Is(err, cove.NotFound) // the network itself
				return err
			}
		}
		if desired == cove.DesireRun {
			var err error
			if d.joins, err = d.e.networksOf(tx, c); err != nil {
				return err
			}
			if err := noteStart(tx, c, c.StartedBy); err != nil {
				return err
			}
		}
		return tx.Put(state.Containers, c.ID, c)
	})
}

func thisProcess() (cove.Process, error) {
	p := cove.Process{PID: os.Getpid()}
	var err error
	if p.Start, err = procfs.StartTime(p.PID); err != nil {
		return p, cove.E("", "", cove.Internal, err)
	}
	return p, nil
}

// lock takes the lock of the container that was just recorded. Somebody may
// have removed it in between: then that is the answer.
func (d *draft) lock(ctx context.Context) (lock.Held, error) {
	l, err := d.e.lockContainer(ctx, d.c.ID)
	if err != nil {
		return nil, err
	}
	err = d.e.store.View(func(tx state.Tx) error {
		var now cove.Container
		err := tx.Get(state.Containers, d.c.ID, &now)
		// Going, its remover has forgotten the lock already, and this is a new one.
		if cove.Is(err, cove.NotFound) || err == nil && now.Intent == cove.BeingRemoved {
			return cove.E("lock container", d.c.Name, cove.NotFound, errSoonRemoved)
		}
		return err
	})
	if errors.Is(err, errSoonRemoved) {
		_ = d.e.locks.Forget(lock.Container, d.c.ID)
	}
	if err != nil {
		_ = l.Unlock()
		return nil, err
	}
	return l, nil
}

// unrecord takes a record back whose maker could not go on; nothing of the
// container runs.
func (d *draft) unrecord(cause error) error {
	if errors.Is(cause, errSoonRemoved) {
		return cause // somebody else has
	}
	errs := []error{cause, d.e.removeAnonymous(d.c, d.e.lockUnder), d.e.drop(d.c)}
	for _, name := range d.made {
		errs = append(errs, d.e.unmakeVolume(name))
	}
	return errors.Join(errs...)
}

// claimName takes the name asked for, or finds one that is free.
func (d *draft) claimName(tx state.Tx) error {
	if d.c.Name != "" {
		return tx.Claim(state.Containers, d.c.Name, d.c.ID)
	}
	for range 20 {
		name := randomName()
		err := tx.Claim(state.Containers, name, d.c.ID)
		if err == nil {
			d.c.Name = name
			return nil
		}
		if !cove.Is(err, cove.Exists) {
			return err
		}
	}
	// The generator's names are used up.
	d.c.Name = randomName() + "_" + d.c.ID[:6]
	return tx.Claim(state.Containers, d.c.Name, d.c.ID)
}

// removeCIDFile removes the file of --cidfile with the container, as podman
// does, unless it has become somebody else's.
func removeCIDFile(c *cove.Container) {
	if !hasCIDFile(c) {
		return
	}
	f, err := os.OpenFile(c.Spec.CIDFile, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	var text [cove.IDLength + 2]byte
	if n, _ := io.ReadFull(f, text[:]); string(text[:n]) == c.ID {
		_ = os.Remove(c.Spec.CIDFile)
	}
}

// hasCIDFile tells whether there is a file to remove with the container. A pipe or
// /dev/null is no such file.
func hasCIDFile(c *cove.Container) bool {
	if c.Spec.CIDFile == "" {
		return false
	}
	info, err := os.Lstat(c.Spec.CIDFile)
	return err == nil && info.Mode().IsRegular()
}

// writeCIDFile tells the container's ID to who asked for it with --cidfile,
// over an older one's as podman 5 does. Over anything else podman writes, too, and
// removes it with the container: that is refused.
func writeCIDFile(c *cove.Container) error {
	name := c.Spec.CIDFile
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return cove.E("write", name, fileKind(err), err)
	}
	if info, serr := f.Stat(); serr == nil && info.Mode().IsRegular() {
		var old [cove.IDLength + 2]byte
		n, _ := io.ReadFull(f, old[:])
		if text := strings.TrimSuffix(string(old[:n]), "\n"); text != "" && !isID(text) {
			_ = f.Close()
			return cove.E("write", name, cove.Invalid, errors.New("container ID file found that holds something else: name another one, or remove it"))
		}
		_, _ = f.Seek(0, io.SeekStart)
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteString(c.ID)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return cove.E("write", name, fileKind(err), err)
	}
	return nil
}
