// To make this file anew after a change of xdr/integrity.x:
// NFS_VERITY_REGENERATE=1 cargo test --test model the_generated_code_is_what_the_specification_gives

// GENERATED CODE
//
// Generated from xdr/integrity.x by xdrgen.
//
// DO NOT EDIT


pub const INTEGRITY_BLOCKLEN : i64 = 65536i64 ;

pub const INTEGRITY_BLOCKS : i64 = 512i64 ;

pub const INTEGRITY_DESCRIPTORLEN : i64 = 256i64 ;

pub const INTEGRITY_FHSIZE : i64 = 64i64 ;

pub const INTEGRITY_NAMELEN : i64 = 255i64 ;

pub const INTEGRITY_NAMES : i64 = 256i64 ;

pub const INTEGRITY_VALUELEN : i64 = 65536i64 ;

#[derive( Clone , Debug , Eq , PartialEq )] pub struct GETPROOF1args { pub object : Vec < u8 > , pub offset : u64 , pub length : u64 , }

#[derive( Clone , Debug , Eq , PartialEq )] pub enum GETPROOF1res { INTEGRITY_OK ( GETPROOF1resok ) , INTEGRITY_IO , INTEGRITY_ACCES , INTEGRITY_INVAL , INTEGRITY_NAMETOOLONG , INTEGRITY_STALE , INTEGRITY_BADHANDLE , INTEGRITY_TOOSMALL , INTEGRITY_JUKEBOX , INTEGRITY_NOXATTR , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct GETPROOF1resok { pub descriptor : Vec < u8 > , pub covered : u64 , pub blocks : Vec < tree_block > , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct GETXATTR1args { pub object : Vec < u8 > , pub name : Vec < u8 > , }

#[derive( Clone , Debug , Eq , PartialEq )] pub enum GETXATTR1res { INTEGRITY_OK ( GETXATTR1resok ) , INTEGRITY_IO , INTEGRITY_ACCES , INTEGRITY_INVAL , INTEGRITY_NAMETOOLONG , INTEGRITY_STALE , INTEGRITY_BADHANDLE , INTEGRITY_TOOSMALL , INTEGRITY_JUKEBOX , INTEGRITY_NOXATTR , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct GETXATTR1resok { pub value : Vec < u8 > , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct LISTXATTRS1args { pub object : Vec < u8 > , pub cookie : u64 , }

#[derive( Clone , Debug , Eq , PartialEq )] pub enum LISTXATTRS1res { INTEGRITY_OK ( LISTXATTRS1resok ) , INTEGRITY_IO , INTEGRITY_ACCES , INTEGRITY_INVAL , INTEGRITY_NAMETOOLONG , INTEGRITY_STALE , INTEGRITY_BADHANDLE , INTEGRITY_TOOSMALL , INTEGRITY_JUKEBOX , INTEGRITY_NOXATTR , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct LISTXATTRS1resok { pub cookie : u64 , pub names : Vec < xattr_name > , pub eof : bool , }

#[derive( Copy , Clone , Debug , Eq , PartialEq )] pub enum integrity_stat { INTEGRITY_OK = 0isize , INTEGRITY_IO = 5isize , INTEGRITY_ACCES = 13isize , INTEGRITY_INVAL = 22isize , INTEGRITY_NAMETOOLONG = 63isize , INTEGRITY_STALE = 70isize , INTEGRITY_BADHANDLE = 10001isize , INTEGRITY_TOOSMALL = 10005isize , INTEGRITY_JUKEBOX = 10008isize , INTEGRITY_NOXATTR = 10095isize , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct tree_block { pub level : u32 , pub index : u64 , pub bytes : Vec < u8 > , }

#[derive( Clone , Debug , Eq , PartialEq )] pub struct xattr_name { pub name : Vec < u8 > , }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETPROOF1args { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . object , Some ( INTEGRITY_FHSIZE as usize ) , out ) ? + self . offset . pack ( out ) ? + self . length . pack ( out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETPROOF1res { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( match self { & GETPROOF1res :: INTEGRITY_OK ( ref val ) => ( integrity_stat :: INTEGRITY_OK as i32 ) . pack ( out ) ? + val . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_IO => ( integrity_stat :: INTEGRITY_IO as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_ACCES => ( integrity_stat :: INTEGRITY_ACCES as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_INVAL => ( integrity_stat :: INTEGRITY_INVAL as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_NAMETOOLONG => ( integrity_stat :: INTEGRITY_NAMETOOLONG as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_STALE => ( integrity_stat :: INTEGRITY_STALE as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_BADHANDLE => ( integrity_stat :: INTEGRITY_BADHANDLE as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_TOOSMALL => ( integrity_stat :: INTEGRITY_TOOSMALL as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_JUKEBOX => ( integrity_stat :: INTEGRITY_JUKEBOX as i32 ) . pack ( out ) ? , & GETPROOF1res :: INTEGRITY_NOXATTR => ( integrity_stat :: INTEGRITY_NOXATTR as i32 ) . pack ( out ) ? , } ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETPROOF1resok { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . descriptor , Some ( INTEGRITY_DESCRIPTORLEN as usize ) , out ) ? + self . covered . pack ( out ) ? + xdr_codec :: pack_flex ( & self . blocks , Some ( INTEGRITY_BLOCKS as usize ) , out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETXATTR1args { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . object , Some ( INTEGRITY_FHSIZE as usize ) , out ) ? + xdr_codec :: pack_opaque_flex ( & self . name , Some ( INTEGRITY_NAMELEN as usize ) , out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETXATTR1res { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( match self { & GETXATTR1res :: INTEGRITY_OK ( ref val ) => ( integrity_stat :: INTEGRITY_OK as i32 ) . pack ( out ) ? + val . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_IO => ( integrity_stat :: INTEGRITY_IO as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_ACCES => ( integrity_stat :: INTEGRITY_ACCES as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_INVAL => ( integrity_stat :: INTEGRITY_INVAL as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_NAMETOOLONG => ( integrity_stat :: INTEGRITY_NAMETOOLONG as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_STALE => ( integrity_stat :: INTEGRITY_STALE as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_BADHANDLE => ( integrity_stat :: INTEGRITY_BADHANDLE as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_TOOSMALL => ( integrity_stat :: INTEGRITY_TOOSMALL as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_JUKEBOX => ( integrity_stat :: INTEGRITY_JUKEBOX as i32 ) . pack ( out ) ? , & GETXATTR1res :: INTEGRITY_NOXATTR => ( integrity_stat :: INTEGRITY_NOXATTR as i32 ) . pack ( out ) ? , } ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for GETXATTR1resok { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . value , Some ( INTEGRITY_VALUELEN as usize ) , out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for LISTXATTRS1args { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . object , Some ( INTEGRITY_FHSIZE as usize ) , out ) ? + self . cookie . pack ( out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for LISTXATTRS1res { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( match self { & LISTXATTRS1res :: INTEGRITY_OK ( ref val ) => ( integrity_stat :: INTEGRITY_OK as i32 ) . pack ( out ) ? + val . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_IO => ( integrity_stat :: INTEGRITY_IO as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_ACCES => ( integrity_stat :: INTEGRITY_ACCES as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_INVAL => ( integrity_stat :: INTEGRITY_INVAL as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_NAMETOOLONG => ( integrity_stat :: INTEGRITY_NAMETOOLONG as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_STALE => ( integrity_stat :: INTEGRITY_STALE as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_BADHANDLE => ( integrity_stat :: INTEGRITY_BADHANDLE as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_TOOSMALL => ( integrity_stat :: INTEGRITY_TOOSMALL as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_JUKEBOX => ( integrity_stat :: INTEGRITY_JUKEBOX as i32 ) . pack ( out ) ? , & LISTXATTRS1res :: INTEGRITY_NOXATTR => ( integrity_stat :: INTEGRITY_NOXATTR as i32 ) . pack ( out ) ? , } ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for LISTXATTRS1resok { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( self . cookie . pack ( out ) ? + xdr_codec :: pack_flex ( & self . names , Some ( INTEGRITY_NAMES as usize ) , out ) ? + self . eof . pack ( out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for integrity_stat { # [ inline ] fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( ( * self as i32 ) . pack ( out ) ? ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for tree_block { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( self . level . pack ( out ) ? + self . index . pack ( out ) ? + xdr_codec :: pack_opaque_flex ( & self . bytes , Some ( INTEGRITY_BLOCKLEN as usize ) , out ) ? + 0 ) } }

impl < Out : xdr_codec :: Write > xdr_codec :: Pack < Out > for xattr_name { fn pack ( & self , out : & mut Out ) -> xdr_codec :: Result < usize > { Ok ( xdr_codec :: pack_opaque_flex ( & self . name , Some ( INTEGRITY_NAMELEN as usize ) , out ) ? + 0 ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETPROOF1args { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETPROOF1args , usize ) > { let mut sz = 0 ; Ok ( ( GETPROOF1args { object : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_FHSIZE as usize ) ) ? ; sz += fsz ; v } , offset : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , length : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETPROOF1res { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETPROOF1res , usize ) > { let mut sz = 0 ; Ok ( ( match { let ( v , dsz ) : ( i32 , _ ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += dsz ; v } { x if x == ( 0i32 as i32 ) => GETPROOF1res :: INTEGRITY_OK ( { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } ) , x if x == ( 5i32 as i32 ) => GETPROOF1res :: INTEGRITY_IO , x if x == ( 13i32 as i32 ) => GETPROOF1res :: INTEGRITY_ACCES , x if x == ( 22i32 as i32 ) => GETPROOF1res :: INTEGRITY_INVAL , x if x == ( 63i32 as i32 ) => GETPROOF1res :: INTEGRITY_NAMETOOLONG , x if x == ( 70i32 as i32 ) => GETPROOF1res :: INTEGRITY_STALE , x if x == ( 10001i32 as i32 ) => GETPROOF1res :: INTEGRITY_BADHANDLE , x if x == ( 10005i32 as i32 ) => GETPROOF1res :: INTEGRITY_TOOSMALL , x if x == ( 10008i32 as i32 ) => GETPROOF1res :: INTEGRITY_JUKEBOX , x if x == ( 10095i32 as i32 ) => GETPROOF1res :: INTEGRITY_NOXATTR , v => return Err ( xdr_codec :: Error :: invalidcase ( v as i32 ) ) } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETPROOF1resok { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETPROOF1resok , usize ) > { let mut sz = 0 ; Ok ( ( GETPROOF1resok { descriptor : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_DESCRIPTORLEN as usize ) ) ? ; sz += fsz ; v } , covered : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , blocks : { let ( v , fsz ) = xdr_codec :: unpack_flex ( input , Some ( INTEGRITY_BLOCKS as usize ) ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETXATTR1args { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETXATTR1args , usize ) > { let mut sz = 0 ; Ok ( ( GETXATTR1args { object : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_FHSIZE as usize ) ) ? ; sz += fsz ; v } , name : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_NAMELEN as usize ) ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETXATTR1res { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETXATTR1res , usize ) > { let mut sz = 0 ; Ok ( ( match { let ( v , dsz ) : ( i32 , _ ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += dsz ; v } { x if x == ( 0i32 as i32 ) => GETXATTR1res :: INTEGRITY_OK ( { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } ) , x if x == ( 5i32 as i32 ) => GETXATTR1res :: INTEGRITY_IO , x if x == ( 13i32 as i32 ) => GETXATTR1res :: INTEGRITY_ACCES , x if x == ( 22i32 as i32 ) => GETXATTR1res :: INTEGRITY_INVAL , x if x == ( 63i32 as i32 ) => GETXATTR1res :: INTEGRITY_NAMETOOLONG , x if x == ( 70i32 as i32 ) => GETXATTR1res :: INTEGRITY_STALE , x if x == ( 10001i32 as i32 ) => GETXATTR1res :: INTEGRITY_BADHANDLE , x if x == ( 10005i32 as i32 ) => GETXATTR1res :: INTEGRITY_TOOSMALL , x if x == ( 10008i32 as i32 ) => GETXATTR1res :: INTEGRITY_JUKEBOX , x if x == ( 10095i32 as i32 ) => GETXATTR1res :: INTEGRITY_NOXATTR , v => return Err ( xdr_codec :: Error :: invalidcase ( v as i32 ) ) } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for GETXATTR1resok { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( GETXATTR1resok , usize ) > { let mut sz = 0 ; Ok ( ( GETXATTR1resok { value : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_VALUELEN as usize ) ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for LISTXATTRS1args { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( LISTXATTRS1args , usize ) > { let mut sz = 0 ; Ok ( ( LISTXATTRS1args { object : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_FHSIZE as usize ) ) ? ; sz += fsz ; v } , cookie : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for LISTXATTRS1res { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( LISTXATTRS1res , usize ) > { let mut sz = 0 ; Ok ( ( match { let ( v , dsz ) : ( i32 , _ ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += dsz ; v } { x if x == ( 0i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_OK ( { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } ) , x if x == ( 5i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_IO , x if x == ( 13i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_ACCES , x if x == ( 22i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_INVAL , x if x == ( 63i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_NAMETOOLONG , x if x == ( 70i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_STALE , x if x == ( 10001i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_BADHANDLE , x if x == ( 10005i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_TOOSMALL , x if x == ( 10008i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_JUKEBOX , x if x == ( 10095i32 as i32 ) => LISTXATTRS1res :: INTEGRITY_NOXATTR , v => return Err ( xdr_codec :: Error :: invalidcase ( v as i32 ) ) } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for LISTXATTRS1resok { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( LISTXATTRS1resok , usize ) > { let mut sz = 0 ; Ok ( ( LISTXATTRS1resok { cookie : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , names : { let ( v , fsz ) = xdr_codec :: unpack_flex ( input , Some ( INTEGRITY_NAMES as usize ) ) ? ; sz += fsz ; v } , eof : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for integrity_stat { # [ inline ] fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( integrity_stat , usize ) > { let mut sz = 0 ; Ok ( ( { let ( e , esz ) : ( i32 , _ ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += esz ; match e { x if x == integrity_stat :: INTEGRITY_OK as i32 => integrity_stat :: INTEGRITY_OK , x if x == integrity_stat :: INTEGRITY_IO as i32 => integrity_stat :: INTEGRITY_IO , x if x == integrity_stat :: INTEGRITY_ACCES as i32 => integrity_stat :: INTEGRITY_ACCES , x if x == integrity_stat :: INTEGRITY_INVAL as i32 => integrity_stat :: INTEGRITY_INVAL , x if x == integrity_stat :: INTEGRITY_NAMETOOLONG as i32 => integrity_stat :: INTEGRITY_NAMETOOLONG , x if x == integrity_stat :: INTEGRITY_STALE as i32 => integrity_stat :: INTEGRITY_STALE , x if x == integrity_stat :: INTEGRITY_BADHANDLE as i32 => integrity_stat :: INTEGRITY_BADHANDLE , x if x == integrity_stat :: INTEGRITY_TOOSMALL as i32 => integrity_stat :: INTEGRITY_TOOSMALL , x if x == integrity_stat :: INTEGRITY_JUKEBOX as i32 => integrity_stat :: INTEGRITY_JUKEBOX , x if x == integrity_stat :: INTEGRITY_NOXATTR as i32 => integrity_stat :: INTEGRITY_NOXATTR , e => return Err ( xdr_codec :: Error :: invalidenum ( e ) ) } } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for tree_block { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( tree_block , usize ) > { let mut sz = 0 ; Ok ( ( tree_block { level : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , index : { let ( v , fsz ) = xdr_codec :: Unpack :: unpack ( input ) ? ; sz += fsz ; v } , bytes : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_BLOCKLEN as usize ) ) ? ; sz += fsz ; v } , } , sz ) ) } }

impl < In : xdr_codec :: Read > xdr_codec :: Unpack < In > for xattr_name { fn unpack ( input : & mut In ) -> xdr_codec :: Result < ( xattr_name , usize ) > { let mut sz = 0 ; Ok ( ( xattr_name { name : { let ( v , fsz ) = xdr_codec :: unpack_opaque_flex ( input , Some ( INTEGRITY_NAMELEN as usize ) ) ? ; sz += fsz ; v } , } , sz ) ) } }

