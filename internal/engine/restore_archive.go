package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/rootfs/archive"
	"github.com/cove-engine/cove/internal/state"
)

// ImportOptions are for RestoreArchive.
type ImportOptions struct {
	RestoreOptions
	Image         bool   // the archive is an image that was made of a checkpoint
	Previous      string // an archive of --pre-checkpoint; "" for none
	Name          string // another container than the one that was checkpointed; "" for that one
	Ports         []cove.PortMapping
	IgnoreRootfs  bool
	IgnoreVolumes bool
	IgnoreIP      bool
	IgnoreMAC     bool
	// Warn is told what the archive gives to the container of the host, before
	// anything is made.
	Warn func(string)
}

// RestoreArchive makes a container of an exported checkpoint, a file or an image,
// and lets it go on.
// As with Run, killed halfway it leaves a container that was created.
func (e *Engine) RestoreArchive(ctx context.Context, name string, o ImportOptions) (CheckpointResult, error) {
	begun := time.Now()
	var result CheckpointResult
	if err := e.images.Ready(); err != nil {
		return result, err
	}
	head, err := e.headOf(ctx, name, o.Image)
	if err != nil {
		return result, err
	}
	size := head.Size
	if o.Previous != "" {
		before, err := e.headOf(ctx, o.Previous, false)
		if err != nil {
			return result, err
		}
		size += min(before.Size, math.MaxInt64-size)
	}
	d, err := e.draftOf(ctx, name, head, o)
	if err != nil {
		return result, err
	}
	defer d.release()
	result.ID = d.c.ID
	if err := e.checkpoints(ctx, d.c); err != nil {
		return result, err
	}
	if err := e.prepareHome(); err != nil {
		return result, err
	}
	if err := e.roomFor(size); err != nil {
		return result, cove.E("restore", name, fileKind(err), err)
	}
	l := d.launch(ctx, func() error { return nil })
	if d.c.Ports, err = l.reserve(); err != nil {
		return result, err
	}
	defer l.unlock()
	i := o.images(e.dir(d.c.ID))
	l.restore = &wire.Restore{Images: i, Started: begun}
	l.unpack = func() error {
		if err := os.Mkdir(i.Work, 0o700); err != nil {
			return err
		}
		err := e.unpackCheckpoint(ctx, d, name, head, o)
		if err == nil && o.Previous != "" {
			o.Image = false
			err = e.unpackCheckpoint(ctx, d, o.Previous, nil, o)
		}
		return err
	}
	conn, err := l.do(ctx)
	if err != nil {
		if l.held() && !l.overtaken {
			err = errors.Join(err, e.removeAnonymous(d.c, e.lockUnder), e.drop(d.c), d.dropMade())
		}
		return result, err
	}
	defer conn.Close()
	result.Runtime = l.took
	if err := e.restored(d.c, i, o.RestoreOptions, &result); err != nil {
		return result, err
	}
	result.Whole = time.Since(begun)
	l.unlock()
	return result, l.poststarted(conn)
}

// headOf reads what has to be known of an archive, or of an image that was made of a checkpoint.
func (e *Engine) headOf(ctx context.Context, name string, image bool) (head *checkpoint.Head, err error) {
	err = e.readArchive(ctx, name, image, func(r io.Reader) (err error) { head, err = checkpoint.ReadHead(r); return err })
	if err != nil {
		return nil, cove.E("read checkpoint", name, archiveKind(err), err)
	}
	return head, nil
}

// roomFor tells whether so many bytes can be written where containers are: a small archive can
// say that its images have any number, and would take all room before it failed.
func (e *Engine) roomFor(size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(e.conf.Home(), &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: e.conf.Home(), Err: err}
	}
	if room := fs.Bavail * uint64(fs.Bsize); uint64(size) > room {
		return fmt.Errorf("it unpacks to %d bytes, and %d are free: %w", size, room, unix.ENOSPC)
	}
	return nil
}

func archiveKind(err error) cove.Kind {
	if k := fileKind(err); k != cove.Internal {
		return k
	}
	return cove.Invalid
}

// readArchive reads through an archive, compressed or not, or through an image
// that has the same files in its layer, until ctx ends: a small one can have any
// number of zeros.
func (e *Engine) readArchive(ctx context.Context, name string, image bool, read func(io.Reader) error) error {
	if image {
		r, err := e.images.Layer(name)
		if err != nil {
			return err
		}
		return errors.Join(read(until{ctx, r}), r.Close())
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := e.images.Decompress(f)
	if err != nil {
		return err
	}
	return errors.Join(read(until{ctx, z}), z.Close())
}

// until reads until its context ends.
type until struct {
	ctx context.Context
	io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(p)
}

// draftOf drafts the container of an archive.
func (e *Engine) draftOf(ctx context.Context, name string, head *checkpoint.Head, o ImportOptions) (*draft, error) {
	refuse := func(kind cove.Kind, why string) (*draft, error) {
		return nil, cove.E("restore", name, kind, errors.New(why))
	}
	was := head.Config.Cove
	switch {
	case was == nil:
		return refuse(cove.Unsupported, "the checkpoint was not made by cove: its mounts are others")
	case !head.Whole:
		return refuse(cove.Invalid, "it has no complete checkpoint")
	case !isID(was.ID):
		return refuse(cove.Invalid, "malformed container ID")
	}
	spec, err := e.importedSpec(was)
	if err != nil {
		return nil, cove.E("restore", name, cove.KindOf(err), err)
	}
	create := CreateOptions{ID: was.ID, CommandLine: was.CommandLine, Quiet: true}
	spec.Name = was.Name
	if o.Name != "" {
		spec.Name, create.ID = o.Name, ""
	}
	if create.ID != "" {
		if err := e.clearOfLinks(ctx, was.ID, linkPatience); err != nil {
			return nil, cove.E("restore", name, cove.KindOf(err), err)
		}
	}
	if len(o.Ports) > 0 {
		spec.Ports = nil
	}
	if all := grants(&spec, e.hasVolume, e.hasNetwork); len(all) > 0 && o.Warn != nil {
		o.Warn("the checkpoint's container has more of the host than others: " + strings.Join(all, ", "))
	}
	if names := slices.Sorted(maps.Keys(spec.Annotations)); len(names) > 0 {
		spec.Annotations = nil
		if o.Warn != nil {
			o.Warn("the checkpoint's annotations are not taken over, since some are orders to OCI runtimes: " + strings.Join(names, ", "))
		}
	}
	if len(o.Ports) > 0 {
		spec.Ports = o.Ports
	}
	d, err := e.draft(ctx, spec, create)
	if err != nil {
		return nil, err
	}
	if d.c.Image.ID != was.Image.ID {
		d.release()
		return refuse(cove.Invalid, fmt.Sprintf("image %s is not the one that the checkpoint was made of: %s", d.c.Image.Name, was.Image.ID))
	}
	if !o.IgnoreVolumes {
		for _, m := range d.c.Mounts {
			if m.Type == "volume" && e.hasVolume(m.Source) {
				d.release()
				return nil, volumeExists(m.Source)
			}
		}
	}
	for i := range d.c.Attachments {
		keepAddresses(&d.c.Attachments[i], was, o)
	}
	return d, nil
}

// linkPatience is how long the kernel may take to clear away the links of a
// container that was just removed.
const linkPatience = 10 * time.Second

// clearOfLinks refuses an ID that somebody else has chosen so that links would have
// the names of another container's, which would lose them: of this store or of any
// other on this host.
func (e *Engine) clearOfLinks(ctx context.Context, id string, patience time.Duration) error {
	begins := id[:network.LinkDigits]
	all, err := e.records()
	if err != nil {
		return err
	}
	for _, c := range all {
		switch {
		case c.ID == id:
			return nil // it is told of that itself
		case strings.HasPrefix(c.ID, begins):
			return cove.E("", "", cove.Exists, fmt.Errorf("the ID of container %s begins with %s, too: restore it under a new one, with --name", c.Name, begins))
		}
	}
	for deadline := time.Now().Add(patience); ; {
		reality, err := e.networks.List(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(reality.Links, func(l network.Link) bool { return l.OwnerPrefix == begins }) {
			return nil
		}
		if time.Now().After(deadline) {
			return cove.E("", "", cove.Exists, fmt.Errorf("a container that is not of this store has links by the ID %s: restore it under a new one, with --name", begins))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func volumeExists(name string) error {
	return cove.E("", "", cove.Exists, errors.New("volume with name "+name+" already exists. Use --ignore-volumes to not restore content of volumes"))
}

// dropMade removes the volumes that the draft has recorded: what a restore that
// failed has put into them is no use to anybody, and the next one would refuse
// them.
func (d *draft) dropMade() error {
	var errs []error
	for _, name := range d.made {
		err := d.e.dropVolume(context.Background(), name)
		if !cove.Is(err, cove.InUse) && !cove.Is(err, cove.NotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// keepAddresses has a container get the addresses that it had, unless they are
// to be ignored or it becomes another container.
func keepAddresses(a *cove.NetworkAttachment, was *cove.Container, o ImportOptions) {
	for _, old := range was.Attachments {
		if old.Network != a.Network {
			continue
		}
		switch {
		case o.IgnoreMAC:
			a.MAC = randomMAC()
		case o.Name == "":
			a.MAC = old.MAC
		}
		switch {
		case o.IgnoreIP:
			a.StaticIPs = nil
		case o.Name == "":
			a.StaticIPs = []netip.Addr{}
			for _, p := range old.Addresses {
				a.StaticIPs = append(a.StaticIPs, p.Addr())
			}
		}
	}
}

// unpackCheckpoint fills the container's directory, root file system and volumes
// from an archive; without a head only with its images.
func (e *Engine) unpackCheckpoint(ctx context.Context, d *draft, name string, head *checkpoint.Head, o ImportOptions) error {
	c := d.c
	parts := checkpoint.Parts{
		Dir:     e.dir(c.ID),
		Changes: func(io.Reader) error { return nil },
		Volume:  func(string, io.Reader) error { return nil },
	}
	if head != nil {
		if path := e.logPath(c); path != "" && filepath.Dir(path) == parts.Dir {
			parts.Log = path
		}
		if !o.IgnoreRootfs {
			parts.Changes = func(r io.Reader) error { return e.applyChanges(ctx, c, r, head.Deleted) }
		}
		if !o.IgnoreVolumes {
			parts.Volume = func(name string, r io.Reader) error { return d.fillFrom(ctx, head.Config.Cove, name, r) }
		}
	}
	err := e.readArchive(ctx, name, o.Image, func(r io.Reader) error { return checkpoint.Unpack(r, parts) })
	if err != nil {
		return cove.E("unpack checkpoint", name, archiveKind(err), err)
	}
	return nil
}

// applyChanges makes the container's root what it was.
func (e *Engine) applyChanges(ctx context.Context, c *cove.Container, r io.Reader, deleted []string) error {
	source := e.stoppedRoot(c, false)
	if source.Overlay != nil {
		// One that was mounted as volatile could not be mounted again.
		source.Overlay.Options = slices.DeleteFunc(source.Overlay.Options, func(o string) bool { return o == "volatile" })
	}
	root, err := rootfs.Open(source)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, name := range deleted {
		name = filepath.Clean("/" + name)
		if name == "/" {
			return cove.E("", "", cove.Invalid, errors.New("it says that the root itself was deleted"))
		}
		dir, err := rootfs.OpenBeneath(root, filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = rootfs.RemoveAll(dir, filepath.Base(name))
		_ = unix.Close(dir)
		if err != nil {
			return err
		}
	}
	return archive.Unpack(ctx, root, r, archive.Options{Overwrite: true, WholeRoot: true})
}

// fillFrom gives the volume that the container had by this name its content. It
// has been made for that: what is in another one is not the archive's to change.
func (d *draft) fillFrom(ctx context.Context, was *cove.Container, name string, r io.Reader) error {
	for _, old := range was.Mounts {
		if old.Type != "volume" || old.Source != name {
			continue
		}
		for _, m := range d.c.Mounts {
			if m.Type != "volume" || m.Destination != old.Destination {
				continue
			}
			if !slices.Contains(d.made, m.Source) {
				return volumeExists(m.Source)
			}
			fd, err := unix.Open(d.e.volumeData(m.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open volume", Path: m.Source, Err: err}
			}
			err = archive.Unpack(ctx, fd, r, archive.Options{Overwrite: true})
			_ = unix.Close(fd)
			return err
		}
	}
	return nil
}

func (e *Engine) hasVolume(name string) bool {
	return e.store.View(func(tx state.Tx) error { return tx.Get(state.Volumes, name, new(struct{})) }) == nil
}

// hasNetwork tells whether there is a network of that name, the default one aside.
func (e *Engine) hasNetwork(name string) bool {
	return name != e.defaultNetwork() && e.store.View(func(tx state.Tx) error {
		_, err := tx.Find(state.Networks, name)
		return err
	}) == nil
}
