package library

import "github.com/cove-engine/cove/internal/image"

func of(u image.Users, imageID string) []string {
	if u == nil {
		return nil
	}
	return u(imageID)
}
