"""Pictures of plans: one image, captioned sheets, the growing tree, a page to explore; and their files."""
