"""The table of formats that are not read: pictures, films and archives that get a record, and documents.

A file of one of these is never judged. Formats that are read are in `clipmod_cli.decode.formats`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from clipmod_cli.decode.formats import HEAD_BYTES, Format, format_by_extension, sniff
from clipmod_cli.decode.reading.boxes import Read, iso_format
from clipmod_cli.decode.reading.zips import is_zip
from clipmod_cli.errors import ItemError

UNREAD_HEAD_BYTES = 36_864
"""The bytes that the signatures need: a CD image names itself at 32,769 and 34,817."""
UNREAD_TAIL_BYTES = 512
"""Disk images and TGA pictures name themselves at their end."""

UnreadKind: TypeAlias = Literal["picture", "film", "archive", "document", "metadata"]

COUNTED: dict[UnreadKind, str] = {"document": "document", "metadata": "Mac metadata"}
"""Kinds that are only counted, with the reason that the summary shows."""

UNREAD_SKIPPED = "unread format"
"""The reason under which `--unread skip` counts the others."""


@dataclass(frozen=True, slots=True)
class UnreadFormat:
    """A format that is not read; `head` and `tail` match the first and last bytes of its files."""

    name: str
    kind: UnreadKind
    extensions: tuple[str, ...]
    head: re.Pattern[bytes] | None
    tail: re.Pattern[bytes] | None

    @property
    def counted_as(self) -> str | None:
        """The reason under which files are counted; None if each gets a record."""
        return COUNTED.get(self.kind)

    def error(self) -> ItemError:
        """Return the error of a file of this format."""
        if self.kind == "archive":
            return ItemError(
                "unsupported_format",
                f"{self.name} archives are not supported: unpack it, and name the folder",
            )
        return ItemError(
            "unsupported_format", f"a {self.kind} of a format that is not supported: {self.name}"
        )


def identify(read: Read, size: int, name: str) -> tuple[Format | None, UnreadFormat | None]:
    """Return a file's format, else the one of this table; neither for another type of file.

    Args:
        read: gives so many bytes (or all that are left) from an offset.
        size: of the file, in bytes.
        name: with its extension.
    """
    head = read(0, HEAD_BYTES)
    if (known := sniff(head)) is not None:
        return known, None
    if head[4:8] == b"ftyp":
        known = iso_format(None, read, size)
        if known is not None:  # it calls itself sound
            return known, None
    head = read(0, UNREAD_HEAD_BYTES)
    tail = read(max(0, size - UNREAD_TAIL_BYTES), UNREAD_TAIL_BYTES)
    unread = sniff_unread(head, tail)
    if (unread is None or unread.counted_as) and is_zip(read, size):  # a self-extracting one
        return format_by_extension("x.zip"), None
    return None, unread_format(head, name, tail)


def sniff_unread(head: bytes, tail: bytes = b"") -> UnreadFormat | None:
    """Return the format of this table whose signature a file has, or None.

    The caller has found that `formats.sniff` knows none.

    Args:
        head: the first `UNREAD_HEAD_BYTES`, or all; fewer miss disk images.
        tail: the last `UNREAD_TAIL_BYTES`.
    """
    text = head.replace(b"\0", b"") if head[:2] in _UTF_16 else head
    for known in UNREAD:
        if known.head is not None and known.head.match(text):
            return known
        if tail and known.tail is not None and known.tail.search(tail):
            return known
    return None


def unread_format(head: bytes, name: str, tail: bytes = b"") -> UnreadFormat | None:
    """Return the format of this table that a file has by its signature, else by its name's extension.

    The extension of a format that is read comes first: its file is an input, whatever it holds. A document
    or Mac metadata that is named as a picture, film or archive gets a record as such: some viewers search for
    a signature further on, and show the picture behind it. Macs name their metadata `._NAME`.
    """
    if (known := sniff_unread(head, tail)) is None:
        return _by_name(name) if head and format_by_extension(name) is None else None
    path = PurePosixPath(name)
    is_metadata = known.kind == "metadata" and path.name.startswith("._")
    if known.counted_as is None or is_metadata or not is_media_name(name):
        return known
    return replace(known, kind="picture", name=f"{known.name} that is named {path.suffix}")


def _by_name(name: str) -> UnreadFormat | None:
    extension = PurePosixPath(name).suffix[1:].lower()
    return next((known for known in UNREAD if extension in known.extensions), None)


def is_media_name(name: str) -> bool:
    """Return whether a name has the extension of a picture, film or archive, read or not."""
    known = _by_name(name)
    return format_by_extension(name) is not None or (known is not None and known.counted_as is None)


_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")


def _unread(
    kind: UnreadKind, name: str, extensions: str, head: bytes | None = None, tail: bytes | None = None
) -> UnreadFormat:
    return UnreadFormat(name, kind, tuple(extensions.split()), _compile(head), _compile(tail))


def _compile(pattern: bytes | None) -> re.Pattern[bytes] | None:
    return re.compile(pattern, re.DOTALL) if pattern is not None else None


_START_CODE = rb"\0{2,9}\x01"
_SVG_PROLOG = (
    rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?(?>\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?>\[.*?\]\s*)?>)*+"
)
"""Atomic groups, so that no text takes long."""
_APPLE_FILE = rb"\0[\x01\x02]\0\0.{16}"
_NO_DATA_FORK = b"(?:%b)" % b"|".join(
    rb"\0\x%02x(?:(?!\0\0\0\x01).{12}){%d}" % (count, count) for count in range(1, 16)
)
"""A count of entries and their ids, none of which is that of a data fork: a file beside a file."""

UNREAD: tuple[UnreadFormat, ...] = (
    _unread("picture", "JPEG XL", "jxl", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _unread(
        "picture", "JPEG 2000", "jp2 j2k j2c jpc jpf jpx jpm jph jhc",
        rb"\0\0\0\x0cjP(?:  |\x1a\x1a)\r\n\x87\n|\xff\x4f\xff\x51",
    ),
    _unread("picture", "JPEG XR", "jxr wdp hdp", rb"II\xbc[\0\x01]"),
    _unread("picture", "JPEG LS", "jls"),
    _unread("picture", "SVG", "svg svgz", _SVG_PROLOG + rb"<(?:[\w.-]+:)?svg[\s>/]"),
    _unread("picture", "ICO", "ico cur", rb"\0\0[\x01\x02]\0[\x01-\xff]\0.{3}[\0\xff].{4}.{3}\0.{3}\0"),
    _unread("picture", "ANI", "ani", rb"RIFF.{4}ACON"),
    _unread("picture", "ICNS", "icns", rb"icns\0"),
    _unread("picture", "PSD", "psd psb pdd", rb"8BPS\0[\x01\x02]"),
    _unread("picture", "TGA", "tga targa vda icb vst", tail=rb"TRUEVISION-XFILE\.\0\Z"),
    _unread("picture", "PNM", "pbm pgm ppm pnm pam pfm phm", rb"P[1-6]\s+(?:#|\d)|P7\n|P[FfHh]\n"),
    _unread("picture", "XBM", "xbm", rb"(?>\s|/\*.*?\*/)*+#define\s+\w+_width\s+\d"),
    _unread("picture", "XPM", "xpm", rb"\s*+(?:/\* XPM \*/|! XPM2)"),
    _unread("picture", "PCX", "pcx dcx pcc", rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]|\xb1\x68\xde\x3a"),
    _unread("picture", "Radiance HDR", "hdr rgbe", rb"#\?(?:RADIANCE|RGBE)"),
    _unread("picture", "OpenEXR", "exr", rb"\x76\x2f\x31\x01"),
    _unread("picture", "DPX", "dpx cin", rb"SDPX|XPDS|\x80\x2a\x5f\xd7"),
    _unread("picture", "DDS", "dds", rb"DDS \x7c\0\0\0"),
    _unread(
        "picture", "texture", "ktx ktx2 pvr vtf blp astc",
        rb"\xabKTX [12][10]\xbb|VTF\0|BLP[12]|\x13\xab\xa1\x5c",
    ),
    _unread("picture", "EPS", "eps epsf epsi ai", rb"%!PS-Adobe-[\d.]+ EPSF|\xc5\xd0\xd3\xc6"),
    _unread("picture", "WMF", "wmf wmz", rb"\xd7\xcd\xc6\x9a|[\x01\x02]\0\x09\0\0[\x01\x03]"),
    _unread("picture", "EMF", "emf emz", rb"\x01\0\0\0.{36} EMF"),
    _unread("picture", "FITS", "fit fits fts", rb"SIMPLE  ="),
    _unread("picture", "DICOM", "dcm dicom", rb".{128}DICM"),
    _unread(
        "picture", "camera raw",
        "cr2 cr3 crw nef nrw arw sr2 srf dng raf orf rw2 rwl pef x3f mrw srw erf kdc dcr 3fr fff mef mos iiq",
        rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0\0\0HEAPCCDR",
    ),
    _unread("picture", "XCF", "xcf", rb"gimp xcf"),
    _unread("picture", "Paint Shop Pro", "psp pspimage", rb"Paint Shop Pro Image File"),
    _unread("picture", "Paint.NET", "pdn", rb"PDN[34]"),
    _unread("picture", "Clip Studio", "clip", rb"CSFCHUNK"),
    _unread("picture", "PICT", "pict pct pic", rb".{522}\0\x11\x02\xff"),
    _unread("picture", "SGI", "sgi rgb rgba bw", rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]"),
    _unread("picture", "Sun raster", "ras sun", rb"\x59\xa6\x6a\x95"),
    _unread("picture", "MIFF", "miff mif", rb"id=ImageMagick"),
    _unread("picture", "FLIF", "flif", rb"FLIF[1-d]"),
    _unread("picture", "BPG", "bpg", rb"BPG\xfb"),
    _unread("picture", "QOI", "qoi", rb"qoif"),
    _unread("picture", "farbfeld", "ff", rb"farbfeld"),
    _unread("picture", "JBIG2", "jb2 jbig2 jbg jbig", rb"\x97JB2\r\n\x1a\n"),
    _unread("picture", "DjVu", "djvu djv", rb"AT&TFORM"),
    _unread("picture", "IFF", "iff lbm ilbm", rb"FORM.{4}(?:ILBM|PBM |ACBM|DEEP|ANIM|RGB8)"),
    _unread("picture", "WBMP", "wbmp"),
    _unread("picture", "MNG", "mng jng", rb"[\x8a\x8b][MJ]NG\r\n\x1a\n"),
    _unread("film", "IVF", "ivf", rb"DKIF"),
    _unread("film", "MXF", "mxf", rb"\x06\x0e\x2b\x34"),
    _unread(
        "film", "raw H.264", "h264 264 avc 26l jsv svc",
        _START_CODE + rb"(?:[\x27\x47\x67][\x2c\x42\x4d\x53\x56\x58\x64\x6e\x76\x7a\x80\x8a\xf4]"
        rb"|\x09[\x10\x30\x50\x70\x90\xb0\xd0\xf0]|\x06[\x01\x05\x06]"
        rb"|[\x28\x48\x68].{3,64}?\0\0\x01)",
    ),
    _unread("film", "raw H.265", "h265 265 hevc hvc", _START_CODE + rb"[\x40\x42\x46\x4e]\x01"),
    _unread("film", "raw H.266", "h266 266 vvc", _START_CODE + rb"\0[\x71\x79\x81\x89\xa1]"),
    _unread(
        "film", "raw MPEG video", "m1v m2v mpv mp2v m4e",
        _START_CODE + rb"(?:\xb3|\xb0[\x01-\xf8]|\xb5[\x08\x09]|\xb8|\xbb|[\xe0-\xef]"
        rb"|[\0-\x1f]\0\0\x01[\x20-\x2f])",
    ),
    _unread("film", "raw VC-1", "vc1 rcv", _START_CODE + rb"\x0f[\xc0-\xff]"),
    _unread("film", "raw AV1", "obu av1", rb"\x12\0\x0a[\x01-\x20]"),
    _unread("film", "raw video", "h261 h263 yuv mjpg mjpeg mjp dnxhd drc cavs avs2 avs3 apv evc", rb"BBCD\0"),
    _unread("film", "YUV4MPEG", "y4m", rb"YUV4MPEG2 "),
    _unread("film", "RealMedia", "rm rmvb rv", rb"\.RMF"),
    _unread("film", "NUT", "nut", rb"nut/multimedia container"),
    _unread("film", "NSV", "nsv", rb"NSV[fs]"),
    _unread("film", "Flash", "swf", rb"[FCZ]WS[\x01-\x40]"),
    _unread("film", "FLIC", "flc fli flx", rb".{4}[\x11\x12\x44]\xaf"),
    _unread("film", "Bink", "bik bk2", rb"BIK[a-k]|KB2[a-n]"),
    _unread("film", "Smacker", "smk", rb"SMK[24]"),
    _unread("film", "RoQ", "roq", rb"\x84\x10\xff\xff\xff\xff"),
    _unread("film", "DV", "dv dif", rb"\x1f\x07\0"),
    _unread("film", "GXF", "gxf", rb"\0\0\0\0\x01\xbc"),
    _unread("film", "WTV", "wtv", rb"\xb7\xd8\x00\x20\x37\x49\xda\x11"),
    _unread("film", "TiVo", "tivo ty", rb"TiVo\0"),
    _unread(
        "film", "game film", "thp cpk 4xm amv vqa mve",
        rb"THP\0|FILM.{12}FDSC|RIFF.{4}(?:4XMV|AMV )|Interplay MVE",
    ),
    _unread("film", "camera raw film", "r3d braw ari crm arx", rb".{4}RED[12]"),
    _unread("film", "Motion JPEG 2000", "mj2 mjp2"),
    _unread("archive", "7z", "7z cb7", rb"7z\xbc\xaf\x27\x1c"),
    _unread("archive", "RAR", "rar cbr", rb"Rar!\x1a\x07|RE~\^"),
    _unread("archive", "cab", "cab", rb"MSCF\0|ISc\("),
    _unread("archive", "lz4", "lz4", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18"),
    _unread("archive", "lzip", "lz tlz", rb"LZIP[\0\x01]"),
    _unread("archive", "lzma", "lzma", rb"\x5d\0\0..(?:\xff{8}|.{5}\0{3})"),
    _unread("archive", "compress", "z taz", rb"\x1f[\x9d\xa0\x1e]"),
    _unread("archive", "lzop", "lzo tzo", rb"\x89LZO\0\r\n\x1a\n"),
    _unread("archive", "lrzip", "lrz", rb"LRZI"),
    _unread("archive", "brotli", "br"),
    _unread("archive", "snappy", "sz snappy", rb"\xff\x06\0\0sNaPpY"),
    _unread("archive", "cpio", "cpio", rb"0707(?:01|02|07)|\xc7\x71|\x71\xc7"),
    _unread("archive", "ar", "ar deb", rb"!<(?:arch|thin)>\n"),
    _unread("archive", "RPM", "rpm", rb"\xed\xab\xee\xdb"),
    _unread("archive", "xar", "xar pkg", rb"xar!"),
    _unread("archive", "ARJ", "arj", rb"\x60\xea.{2}[\x1e-\x30]"),
    _unread("archive", "LHA", "lha lzh lzs", rb"..-l[hzp][\dds]-"),
    _unread("archive", "ACE", "ace cba", rb".{7}\*\*ACE\*\*"),
    _unread("archive", "ZOO", "zoo", rb"ZOO \d|.{20}\xdc\xa7\xc4\xfd"),
    _unread("archive", "ARC", "arc"),
    _unread("archive", "StuffIt", "sit sitx hqx", rb"SIT!|StuffIt|\(This file must be converted with BinHex"),
    _unread("archive", "uuencode", "uu uue", rb"begin(?:-base64)? [0-7]{3,4} \S"),
    _unread("archive", "WARC", "warc arc", rb"WARC/\d"),
    _unread("archive", "ALZ", "alz egg", rb"ALZ\x01|EGGA"),
    _unread("archive", "ZPAQ", "zpaq paq8 paq8l", rb"7kSt|zPQ"),
    _unread("archive", "Wim", "wim swm esd", rb"MSWIM\0\0\0"),
    _unread("archive", "split zip", "z01 zipx"),
    _unread(
        "archive", "disk image",
        "iso img dmg vhd vhdx vmdk vdi qcow qcow2 nrg mdf cdi ccd toast udf squashfs sqfs snap cso e01 aff",
        rb".{32769}(?:CD001|BEA01|NSR0)|.{34817}(?:CD001|NSR0)|\0\xff{10}\0|hsqs|sqsh|vhdxfile|conectix|KDMV"
        rb"|QFI\xfb|.{64}\x7f\x10\xda\xbe|\x45\x3d\xcd\x28|\x28\xcd\x3d\x45|-rom1fs-|XFSB|UBI#|encrcdsa|cdsaencr"
        rb"|AFF10|EVF\x09\r\n\xff\0|CISO|\x3a\xff\x26\xed|.{32}NXSB|.{512}EFI PART"
        rb"|.{1024}(?:H\+\0\x04|HX\0\x05)"
        rb"|\xeb[\x3c\x58\x52\x76]\x90(?:NTFS|EXFAT|.{51}FAT1[26]|.{79}FAT32)|.{446}[\0\x80].{63}\x55\xaa"
        rb"|.{1080}\x53\xef[\x01-\x04]\0[\x01-\x03]\0",
        tail=rb"koly.{508}\Z|conectix.{503,504}\Z",
    ),
    _unread("metadata", "AppleDouble", "", rb"\0\x05\x16\x07" + _APPLE_FILE + _NO_DATA_FORK),
    _unread("archive", "AppleSingle", "", rb"\0\x05\x16[\0\x07]" + _APPLE_FILE),
    _unread(
        "document", "document",
        "pdf ps doc dot docx docm xls xlt xlsx xlsm xlsb ppt pps pot pptx pptm ppsx rtf odt ods odp odg ott"
        " pages numbers key pub vsd one xps oxps chm mobi azw azw3",
        rb"%PDF-|%!PS|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|\{\\rtf|ITSF|.{60}BOOKMOBI",
    ),
)  # fmt: skip
"""The first whose signature fits wins."""
