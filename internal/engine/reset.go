package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/rootfs"
)

// Places are the directories that are cove's own: what must not be lost, and
// what can be made again.
func (e *Engine) Places() (home, scratch string) { return e.conf.Home(), e.conf.Scratch() }

// Reset removes all that is cove's: containers, volumes, networks, the pins of
// images, and its directories. Images stay, the store is not cove's alone, and a
// transient store leaves a lasting one beside it alone. It works also when the state store cannot be read any more; one that was cut
// short goes on with the next.
func (e *Engine) Reset(ctx context.Context) error {
	if err := e.images.Ready(); err != nil {
		return err
	}
	if !exists(e.conf.Home()) && !exists(e.conf.Boots()) {
		return nil
	}
	if other := e.conf.Beside().Home(); !e.conf.Transient && exists(other) {
		return cove.E("reset", other, cove.InUse, errors.New("the transient store has to go before the lasting one: cove --transient-store system reset"))
	}
	// What a verb cannot remove, or a store that cannot be read keeps it from
	// finding, is removed below by what the directories and the kernel tell.
	_ = e.removeRecorded(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.removeUnrecorded(); err != nil {
		return err
	}
	if err := e.networks.RemoveEmpty(ctx); err != nil {
		return err
	}
	if layout, err := e.cgroups(); err == nil {
		for _, shared := range []string{cgroupParent, monitorCgroup, runtimeCgroup} {
			_ = layout.RemoveEmpty(shared)
		}
	}
	if err := e.images.Retire(ctx, usersIn(e.recordsBeside).of); err != nil {
		return err
	}
	return e.removePlaces()
}

// removeRecorded removes everything that has a record, by the ordinary verbs.
func (e *Engine) removeRecorded(ctx context.Context) error {
	all, err := e.records()
	errs := []error{err}
	for _, c := range all {
		// What they would want to bring into order goes, too.
		err := e.Remove(ctx, c.ID, RemoveOptions{Force: true, Volumes: true, Depend: true, Timeout: new(uint)})
		if !cove.Is(err, cove.NotFound) {
			errs = append(errs, err)
		}
	}
	_, _, err = e.PruneVolumes(ctx, nil)
	errs = append(errs, err)
	_, err = e.PruneNetworks(ctx, nil)
	errs = append(errs, err)
	errs = append(errs, e.removeLinks(ctx, all))
	networks, err := e.Networks(ctx, nil)
	errs = append(errs, err)
	reality, err := e.networks.List(ctx)
	errs = append(errs, err)
	for _, n := range networks { // the default one, which has no end of its own
		if slices.ContainsFunc(reality.Bridges, func(b network.Bridge) bool { return b.NetworkID == n.ID && !b.Used }) {
			errs = append(errs, e.networks.RemoveNetwork(ctx, n))
		}
	}
	_, err = e.Check(ctx, true, false)
	return errors.Join(append(errs, err)...)
}

// removeLinks removes the links of containers that have ended: they go with
// their network namespaces, which the kernel clears away when it has the time,
// and until then a bridge looks as if it were in use.
func (e *Engine) removeLinks(ctx context.Context, ended []*cove.Container) error {
	reality, err := e.networks.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range reality.Links {
		if slices.ContainsFunc(ended, func(c *cove.Container) bool { return strings.HasPrefix(c.ID, l.OwnerPrefix) }) {
			errs = append(errs, e.networks.RemoveLink(ctx, l.Name))
		}
	}
	return errors.Join(errs...)
}

// removeUnrecorded ends every container that still has a directory.
func (e *Engine) removeUnrecorded() error {
	for _, parent := range []string{e.conf.Containers(), e.conf.Removed()} {
		ids, err := dirNames(parent)
		if err != nil {
			return err
		}
		for _, id := range ids {
			dir := filepath.Join(parent, id)
			if !isID(id) {
				continue
			}
			if err := e.endMonitors(id); err != nil {
				return err
			}
			if !monitorEnds(dir, 10*time.Second) {
				return cove.E("reset", id, cove.Unavailable, errors.New("the container's monitor does not end"))
			}
			if err := e.networks.RemoveElements(context.Background(), id); err != nil {
				return err
			}
			if err := e.clear(&Container{Container: cove.Container{ID: id}, Dir: dir}); err != nil {
				return err
			}
		}
	}
	return nil
}

// endMonitors ends the monitors of a container; their inits die with them.
func (e *Engine) endMonitors(id string) error {
	pids, err := processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		there, err := e.monitorOf(pid)
		if err == nil && there == id {
			err = e.endMonitor(pid, id)
		}
		if err != nil {
			return cove.E("end monitor of container", id, cove.Internal, err)
		}
	}
	return nil
}

// removePlaces removes cove's directories, the state store last.
func (e *Engine) removePlaces() error {
	home, all := e.conf.Home(), e.conf.Base()
	if e.conf.Transient && exists(e.conf.Beside().Locks()) {
		all = e.conf.Boots()
	}
	names, err := dirNames(home)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "state.") {
			continue
		}
		path := filepath.Join(home, name)
		err := os.Remove(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = rootfs.RemoveTree(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cove.E("remove", path, fileKind(err), err)
		}
	}
	for _, dir := range []string{home, all} {
		if err := rootfs.RemoveTree(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cove.E("remove", dir, fileKind(err), err)
		}
	}
	// Another store's containers may have their sockets there.
	scratch := e.conf.Scratch()
	for _, dir := range []string{filepath.Join(scratch, "bin"), e.toldDir(), e.featuresDir()} {
		_ = os.RemoveAll(dir)
	}
	_ = os.Remove(filepath.Join(scratch, "containers"))
	_ = os.Remove(scratch)
	return nil
}
