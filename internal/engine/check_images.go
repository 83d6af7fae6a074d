package engine

import (
	"slices"
	"sync"

	"github.com/cove-engine/cove/internal/image"
)

// images looks for what is wrong in the image store. Whatever is there only for a
// moment, since a copy is at work, is not there when it is looked at again.
func (k *survey) images() {
	users := func() image.Users { return k.e.imageUsers().of }
	found, err := k.e.images.Check(k.ctx, users)
	k.fail(err)
	again := sync.OnceValues(func() ([]image.Damage, error) { return k.e.images.Check(k.ctx, users) })
	for _, d := range found {
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: d.Kind, Object: d.Object, Problem: d.Problem}, repair: d.Repair,
			still: func() (bool, error) {
				now, err := again()
				return slices.ContainsFunc(now, func(o image.Damage) bool {
					return o.Kind == d.Kind && o.Object == d.Object && o.Problem == d.Problem
				}), err
			},
		})
	}
}
