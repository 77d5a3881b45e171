"""Forms that blocks take for speed."""
