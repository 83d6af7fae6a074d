package engine

import (
	"context"
	"errors"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/front"
)

// noImages is the image store of an engine that has none.
type noImages struct {
	*front.Store
	why error
}

func withoutImages(why error) image.Images {
	return noImages{front.Open(image.Options{}, func() error { return why }), why}
}

var errNoImages = cove.E("use images", "", cove.Unsupported, errors.New("this engine was opened without an image store"))

// Resolve fails as all else does, whatever the command's index knows.
func (n noImages) Resolve(context.Context, string, string) (cove.ImageConfig, error) {
	return cove.ImageConfig{}, n.why
}

// There are no images: that is an answer where they are only looked at on the way
// to something else.

func (noImages) Ready() error { return nil }
func (noImages) Hold(context.Context) (func() error, error) {
	return func() error { return nil }, nil
}
func (noImages) List(context.Context, image.ListOptions) ([]image.Summary, error)  { return nil, nil }
func (noImages) Check(context.Context, func() image.Users) ([]image.Damage, error) { return nil, nil }
func (noImages) Retire(context.Context, image.Users) error                         { return nil }
