package main

import (
	"image/color"

	"gonum.org/v1/plot/vg/draw"
)

// Colours that those can tell apart who see red and green alike (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0, 0, 0, 255},
	color.RGBA{0, 114, 178, 255},
	color.RGBA{213, 94, 0, 255},
	color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255},
	color.RGBA{86, 180, 233, 255},
	color.RGBA{230, 159, 0, 255},
}

var shapes = []draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.PlusGlyph{},
}

func colour(i int) color.Color     { return colours[i%len(colours)] }
func shape(i int) draw.GlyphDrawer { return shapes[i%len(shapes)] }
