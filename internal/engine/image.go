package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/state"
)

// builtinName is the image that travels inside the program.
const builtinName = "cove.local/hello:latest"

// builtin brings the image that travels inside the program into the store
// when it is the one asked for and is not there yet. false: another image was
// asked for, or this program carries none. The caller resolves the name
// (again) afterwards.
func (e *Engine) builtin(ctx context.Context, name string) (bool, error) {
	if name != builtinName && name != strings.TrimSuffix(builtinName, ":latest") || e.builtinArchive == nil {
		return false, nil
	}
	have, err := e.images.Exists(builtinName)
	if err != nil || have {
		return have, err
	}
	data, err := e.builtinArchive()
	if err != nil {
		return false, err
	}
	if err := e.images.LoadBuiltin(ctx, builtinName, data); err != nil {
		return false, err
	}
	e.imageEvent(e.imageID(ctx, builtinName), builtinName, "loadfromarchive")
	return true, nil
}

// imageEvent tells the event log what became of an image, in podman's words.
func (e *Engine) imageEvent(id, name, status string) {
	_ = e.events.Write(cove.Event{ID: id, Name: name, Status: status, Time: time.Now(), Type: "image"})
}

// imageID gives a local image's ID for an event; "" when it cannot be told.
func (e *Engine) imageID(ctx context.Context, nameOrID string) string {
	data, err := e.images.Inspect(ctx, nameOrID)
	if err != nil {
		return ""
	}
	return data.ID
}

// imageUsers tells which containers use an image. It reads the records once,
// when it is asked for the first time: by then the image room keeps new users
// out. Records that cannot be read make every image used, and failed gives
// the reason.
type imageUsers struct {
	of     image.Users
	failed func() error
}

func (e *Engine) imageUsers() imageUsers { return usersIn(e.records, e.recordsBeside) }

// shownUsers is imageUsers for who only shows them: records that cannot be read are
// passed over.
func (e *Engine) shownUsers() imageUsers {
	whole := func(records func() ([]*cove.Container, error)) func() ([]*cove.Container, error) {
		return func() ([]*cove.Container, error) {
			all, err := records()
			if errors.Is(err, state.ErrDamaged) {
				err = nil
			}
			return all, err
		}
	}
	return usersIn(whole(e.records), whole(e.recordsBeside))
}

func usersIn(stores ...func() ([]*cove.Container, error)) imageUsers {
	read := sync.OnceValues(func() (map[string][]string, error) {
		users := map[string][]string{}
		var errs []error
		for _, records := range stores {
			all, err := records()
			errs = append(errs, err)
			for _, c := range all {
				if c.Image.ID != "" {
					users[c.Image.ID] = append(users[c.Image.ID], c.ID)
				}
			}
		}
		return users, errors.Join(errs...)
	})
	asked := false
	return imageUsers{
		of: func(id string) []string {
			asked = true
			users, err := read()
			if err != nil {
				return []string{"unknown containers"}
			}
			return users[id]
		},
		failed: func() error {
			if !asked {
				return nil
			}
			_, err := read()
			return err
		},
	}
}

// records gives the records of all containers but those whose monitors have
// removed them, in order of ID.
func (e *Engine) records() ([]*cove.Container, error) {
	gone := map[string]bool{}
	for _, id := range e.removedMarks() {
		gone[id] = true
	}
	all, err := recordsIn(e.store)
	return slices.DeleteFunc(all, func(c *cove.Container) bool { return gone[c.ID] }), err
}

// recordsBeside are those of the other store on this graph root.
func (e *Engine) recordsBeside() ([]*cove.Container, error) {
	if _, err := os.Lstat(e.conf.Beside().Home()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the store cannot tell that of a read-only file system
	}
	s, err := e.beside()
	if err != nil {
		return nil, err
	}
	return recordsIn(s)
}

// recordsIn are those of a store. With an error for which damaged ones are the reason
// there are all others.
func recordsIn(s state.Store) (all []*cove.Container, err error) {
	var damaged []error
	err = s.View(func(tx state.Tx) error {
		all, damaged = nil, nil
		return tx.List(state.Containers, func(id string, raw []byte) error {
			if c, err := decodeContainer(id, raw); err != nil {
				damaged = append(damaged, err)
			} else {
				all = append(all, c)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return all, errors.Join(damaged...)
}

// Images lists images, with the number of containers of each.
func (e *Engine) Images(ctx context.Context, o image.ListOptions) ([]image.Summary, error) {
	users := e.shownUsers()
	o.Users = users.of
	all, err := e.images.List(ctx, o)
	if err == nil {
		err = users.failed()
	}
	return all, err
}

// NeedImages makes sure that image verbs can be carried out by this program.
func (e *Engine) NeedImages() error { return e.images.Ready() }

// ImageExists reports whether there is such a local image.
func (e *Engine) ImageExists(ctx context.Context, nameOrID string) (bool, error) {
	return e.images.Exists(nameOrID)
}

// InspectImage describes a local image.
func (e *Engine) InspectImage(ctx context.Context, nameOrID string) (*image.ImageData, error) {
	return e.images.Inspect(ctx, nameOrID)
}

// ImageHistory tells how a local image was made, the newest step first.
func (e *Engine) ImageHistory(ctx context.Context, nameOrID string) ([]image.HistoryEntry, error) {
	return e.images.History(ctx, nameOrID)
}

// PullImage brings an image into the store and gives the IDs of what name
// then stands for.
func (e *Engine) PullImage(ctx context.Context, name string, o image.PullOptions) ([]string, error) {
	ids, err := e.images.Pull(ctx, name, o)
	if err != nil {
		ev := cove.Event{Name: name, Status: "pull-error", Time: time.Now(), Type: "image", Error: err.Error()}
		_ = e.events.Write(ev)
		return ids, err
	}
	for _, id := range ids {
		e.imageEvent(id, name, "pull")
	}
	return ids, nil
}

// PushImage copies an image to a registry or elsewhere and gives the digest of
// the manifest that it wrote. An empty destination is the image's own name.
func (e *Engine) PushImage(ctx context.Context, nameOrID, destination string, o image.PushOptions) (string, error) {
	digest, err := e.images.Push(ctx, nameOrID, destination, o)
	if err != nil {
		return digest, err
	}
	if destination == "" {
		destination = nameOrID
	}
	e.imageEvent(e.imageID(ctx, nameOrID), destination, "push")
	return digest, nil
}

// LoadImages reads an archive or directory, or in when path is empty, and
// gives names, or "sha256:" and the ID where there is none.
func (e *Engine) LoadImages(ctx context.Context, path string, in io.Reader, o image.LoadOptions) (names []string, err error) {
	if path == "" {
		names, err = e.images.LoadFrom(ctx, in, o)
		path = "-"
	} else {
		names, err = e.images.Load(ctx, path, o)
	}
	if err != nil {
		return names, err
	}
	for _, name := range names {
		e.imageEvent(e.imageID(ctx, name), path, "loadfromarchive")
	}
	return names, nil
}

// SaveImages writes images to an archive or directory.
func (e *Engine) SaveImages(ctx context.Context, nameOrIDs []string, o image.SaveOptions) error {
	if err := e.images.Save(ctx, nameOrIDs, o); err != nil {
		return err
	}
	for _, name := range nameOrIDs {
		e.imageEvent(e.imageID(ctx, name), o.Output, "save")
	}
	return nil
}

// ImportImage makes an image of a tarball's files and gives its ID. The source
// is a path, a URL or "-", which reads o.Stdin.
func (e *Engine) ImportImage(ctx context.Context, source string, o image.ImportOptions) (string, error) {
	id, err := e.images.Import(ctx, source, o)
	if err != nil {
		return "", err
	}
	name := o.Reference
	if name == "" {
		name = source
	}
	e.imageEvent(strings.TrimPrefix(id, "sha256:"), name, "import")
	return id, nil
}

// TagImage gives an image further names.
func (e *Engine) TagImage(ctx context.Context, nameOrID string, names []string) error {
	if err := e.images.Tag(nameOrID, names...); err != nil {
		return err
	}
	id := e.imageID(ctx, nameOrID)
	for _, name := range names {
		e.imageEvent(id, name, "tag")
	}
	return nil
}

// UntagImage takes names away from an image, all of them when none is given.
func (e *Engine) UntagImage(ctx context.Context, nameOrID string, names []string) error {
	before, known := e.images.Inspect(ctx, nameOrID)
	err := e.images.Untag(nameOrID, names...)
	if known != nil {
		return err
	}
	// Of several names some may have gone before one could not. Events tell
	// whole names, not what was typed.
	if after, err := e.images.Inspect(ctx, before.ID); err == nil {
		e.tellUntagged(before.ID, slices.DeleteFunc(slices.Clone(before.RepoTags), func(name string) bool { return slices.Contains(after.RepoTags, name) }))
	}
	return err
}

func (e *Engine) tellUntagged(id string, names []string) {
	for _, name := range names {
		e.imageEvent(id, name, "untag")
	}
}

// RemoveImages removes images by name or ID. It says what it did also when
// some could not be removed; those errors are joined. With Force it removes,
// before, the containers that use an image which would be deleted.
func (e *Engine) RemoveImages(ctx context.Context, nameOrIDs []string, o image.RemoveOptions) ([]image.RemoveReport, error) {
	var errs []error
	if o.Force {
		list, err := e.images.List(ctx, image.ListOptions{All: true, Filters: []string{"readonly=false"}})
		if err != nil {
			return nil, err
		}
		errs = append(errs, e.removeImageUsers(ctx, list, nameOrIDs, o.All))
	}
	users := e.imageUsers()
	reports, err := e.images.Remove(ctx, nameOrIDs, o, users.of)
	e.tellRemoved(reports)
	return reports, errors.Join(append(errs, users.failed(), err)...)
}

// removeImageUsers removes the containers that keep images, out of a list of all,
// from being deleted. What it cannot find the removal itself will complain about.
func (e *Engine) removeImageUsers(ctx context.Context, list []image.Summary, nameOrIDs []string, all bool) error {
	removable := map[string]image.Summary{}
	beside := usersIn(e.recordsBeside)
	for _, s := range list {
		if len(beside.of(s.ID)) == 0 {
			removable[s.ID] = s
		}
	}
	doomed := map[string]bool{}
	for _, name := range nameOrIDs {
		data, err := e.images.Inspect(ctx, name)
		if err != nil {
			continue
		}
		byID := strings.HasPrefix(data.ID, strings.TrimPrefix(name, "sha256:"))
		s, is := removable[data.ID]
		// Of one with several names only the name goes.
		doomed[data.ID] = is && (byID || len(s.Names) < 2)
	}
	for id := range removable {
		doomed[id] = doomed[id] || all
	}
	records, err := e.records()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range records {
		if !doomed[c.Image.ID] {
			continue
		}
		if err := e.Remove(ctx, c.ID, RemoveOptions{Force: true}); err != nil && !cove.Is(err, cove.NotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) tellRemoved(reports []image.RemoveReport) {
	for _, r := range reports {
		e.tellUntagged(r.ID, r.Untagged)
		if r.Deleted {
			name := r.ID
			if len(r.Untagged) > 0 {
				name = r.Untagged[0]
			}
			e.imageEvent(r.ID, name, "remove")
		}
	}
}

// PruneImages removes unnamed images that no container uses, with all also
// named ones. Filters are key=value or key!=value.
func (e *Engine) PruneImages(ctx context.Context, all bool, filters []string) ([]image.RemoveReport, error) {
	users := e.imageUsers()
	reports, err := e.images.Prune(ctx, all, filters, users.of)
	e.tellRemoved(reports)
	return reports, errors.Join(users.failed(), err)
}

// Login checks credentials with a registry and keeps them.
func (e *Engine) Login(ctx context.Context, registry string, o image.LoginOptions) error {
	return e.images.Login(ctx, registry, o)
}

// Logout forgets a registry's credentials.
func (e *Engine) Logout(ctx context.Context, registry string, o image.LogoutOptions) error {
	return e.images.Logout(registry, o)
}
