package library

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.podman.io/common/libimage"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// List lists local images, newest first as the library orders them.
func (s *Store) List(ctx context.Context, o image.ListOptions) ([]image.Summary, error) {
	const op = "list images"
	return soon(ctx, op, "", func() ([]image.Summary, error) { return s.list(ctx, op, o) })
}

func (s *Store) list(ctx context.Context, op string, o image.ListOptions) ([]image.Summary, error) {
	lib, err := s.library()
	if err != nil {
		return nil, err
	}
	filters := []string{}
	used := ""
	for _, f := range o.Filters {
		if v, ok := strings.CutPrefix(f, "containers="); ok {
			if v != "true" && v != "false" {
				return nil, cove.E(op, f, cove.Invalid, errors.New("want containers=true or containers=false"))
			}
			used = v
			continue
		}
		filters = append(filters, f)
	}
	final := filters
	if !o.All && !slices.ContainsFunc(filters, func(f string) bool { return strings.HasPrefix(f, "intermediate") }) {
		final = append(slices.Clone(filters), "intermediate=false")
	}
	images, err := lib.runtime.ListImages(ctx, &libimage.ListImagesOptions{Filters: final, SetListData: true})
	if err != nil && ctx.Err() == nil {
		// One that has lost its manifest is in no tree of images, nor are the others then:
		// all are listed, without what the tree would tell of them.
		if all, again := lib.runtime.ListImages(ctx, &libimage.ListImagesOptions{Filters: filters}); again == nil {
			images, err = all, nil
		}
	}
	if err != nil {
		return nil, failContent(op, "", err)
	}
	out := []image.Summary{}
	for _, img := range images {
		users := len(of(o.Users, img.ID()))
		if used != "" && (used == "true") != (users > 0) {
			continue
		}
		sum, err := summary(ctx, img)
		if err != nil {
			// An image that another tool removes meanwhile, or a
			// damaged one, must not hide the others.
			if !lib.imageExists(img.ID()) {
				continue
			}
		}
		sum.Containers = users
		if o.Layers {
			sum.Layers = lib.layerSizes(img.TopLayer())
		}
		out = append(out, sum)
	}
	return out, nil
}

// layerSizes lists the layers from top down, as far as they are there.
func (l *library) layerSizes(top string) []image.Layer {
	var out []image.Layer
	for top != "" {
		rec, err := l.store.Layer(top)
		if err != nil {
			break
		}
		out = append(out, image.Layer{ID: top, Size: max(rec.UncompressedSize, 0)})
		top = rec.Parent
	}
	return out
}

func summary(ctx context.Context, img *libimage.Image) (image.Summary, error) {
	s := image.Summary{
		ID: img.ID(), Names: img.Names(), Digest: img.Digest().String(), Created: img.Created(),
		ReadOnly: img.IsReadOnly(), History: img.NamesHistory(),
	}
	if d := img.ListData.IsDangling; d != nil {
		s.Dangling = *d
	}
	if p := img.ListData.Parent; p != nil {
		s.ParentID = p.ID()
	}
	var errs [4]error
	s.RepoTags, errs[0] = img.RepoTags()
	s.RepoDigests, errs[1] = img.RepoDigests()
	s.Size, errs[2] = img.Size()
	data, err := img.Inspect(ctx, nil)
	errs[3] = err
	if data != nil {
		s.Labels, s.OS, s.Arch = data.Labels, data.Os, data.Architecture
	}
	return s, errors.Join(errs[:]...)
}
