ALTER TABLE "PlaylistTrack" DROP COLUMN "Position";
